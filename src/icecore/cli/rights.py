# SPDX-License-Identifier: Apache-2.0
"""What the user may do later, said before it is too late."""

from icecore.cli import output


def note_if_only_root_can_restore() -> None:
    """Anyone may checkpoint their own processes; to restore one under its old pid takes a capability."""
    from icecore.daemon.probes import Lacking, probe_capability

    try:
        probe_capability()
    except Lacking:
        output.note("these checkpoints can be restored by root only (CAP_CHECKPOINT_RESTORE), not by this user")
