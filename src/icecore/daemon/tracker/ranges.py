# SPDX-License-Identifier: Apache-2.0
"""Ranges as people write them, and the refusal of those that cannot be meant."""

from icecore.daemon.tracker.base import Range, Ranges
from icecore.daemon.tracker.gone import target_gone
from icecore.daemon.tracker.layout import make_layout
from icecore.errors import UsageError
from icecore.kernel.procfs import read_maps


def spell(one: Range) -> str:
    """``7f0000000000-7f0000001000``, or the name."""
    return one if isinstance(one, str) else f"{one[0]:x}-{one[1]:x}"


def refuse_empty(pid: int, label: str, ranges: Ranges) -> None:
    """UsageError names each range in which the process has, at this moment, no memory of its own."""
    if not ranges:
        return
    with target_gone(pid):
        vmas = read_maps(pid)
    empty = [spell(one) for one in ranges if not make_layout(vmas, (one,)).pieces]
    if empty:
        raise UsageError(
            f"{label} has no memory of its own at {', '.join(empty)}",
            f"see /proc/{pid}/maps for addresses and names; shared mappings of files are not kept",
        )
