# SPDX-License-Identifier: Apache-2.0
"""A mapping that loses its tracking without being touched: the kernel joins it with one that was moved next to it.

The moved one comes unregistered, and so the two are; but the pages of the other keep their write protection's mark.
"""

from pathlib import Path

from support.programs import c_program
from support.recording import Recording
from support.victim import Victim


def test_writes_after_a_mapping_was_moved_beside(tmp_path: Path) -> None:
    """Every write is seen, in the checkpoint after the move and in those that follow."""
    with Victim.start([c_program("mover")]) as victim:
        with Recording(victim, tmp_path / "store") as recording:
            recording.checkpoint_and_compare(victim.expect("ok", "write"))
            victim.expect("moved", "move")
            for _ in range(4):
                recording.checkpoint_and_compare(victim.expect("ok", "write"))
        victim.kill()
        for link in recording.links:
            with recording.restored(link) as restored:
                assert restored.expect("ok", "check") == link.answer
