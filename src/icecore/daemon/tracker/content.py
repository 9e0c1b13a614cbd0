# SPDX-License-Identifier: Apache-2.0
"""No tracking at all: every page is in doubt, and its content decides. Works for one checkpoint as well as for many."""

from collections.abc import Sequence

from icecore.daemon.tracker.base import Collected, Ranges
from icecore.daemon.tracker.gone import target_gone
from icecore.daemon.tracker.layout import make_layout
from icecore.daemon.tracker.moment import NOTHING_KNOWN, scanner_for, take_moment
from icecore.daemon.tracker.proof import NO_PROOF
from icecore.inject import Frozen
from icecore.kernel.pagemap import Pagemap
from icecore.kernel.procfs import Vma
from icecore.storage.runs import EMPTY, Runs, union


class Content:
    """One target's pages, listed anew each time."""

    name = "content"

    def __init__(self, pid: int, ranges: Ranges = (), reason: str = "") -> None:
        self.reason = reason or "every page is read and compared"
        self.pause_us = 0
        self._pid = pid
        self._ranges = ranges
        with target_gone(pid):
            self._pagemap = Pagemap(pid)

    def arm(self, frozen: Frozen) -> None:
        """Nothing to arm."""

    def alive(self) -> bool:
        """See ``Tracker.alive``."""
        return self._pagemap.has_address_space()

    def worth_a_live_round(self) -> bool:
        """See ``Tracker.worth_a_live_round``: it never stops the target."""
        return True

    def collect(self, vmas: Sequence[Vma]) -> Runs:  # noqa: ARG002 (the signature is Tracker's)
        """Nothing: what is read while the target runs would have to be read again."""
        return EMPTY

    def collect_frozen(self, vmas: Sequence[Vma]) -> Collected:
        """All data pages, in doubt."""
        with target_gone(self._pid, self._pagemap):
            layout = make_layout(vmas, self._ranges)
            moment = take_moment(self._pid, scanner_for(self._pagemap), layout, NOTHING_KNOWN, NO_PROOF)
        populated = union(moment.private, moment.shared)
        return Collected(EMPTY, populated, moment.zero, moment.guard, populated)

    def close(self) -> None:
        """Close the pagemap."""
        self._pagemap.close()
