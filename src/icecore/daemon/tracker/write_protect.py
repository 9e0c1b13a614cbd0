# SPDX-License-Identifier: Apache-2.0
"""Tracking by asynchronous write protection: userfaultfd WP_ASYNC and PAGEMAP_SCAN (Linux 6.7), page by page.

The descriptor is made inside the target and taken out of it; the target itself keeps nothing and never waits for us.
If we die the kernel lifts the protection. Several trackers of one process share it (``SharedWatch``).
"""

from collections.abc import Sequence

from icecore.daemon.tracker.base import Collected, Ranges
from icecore.daemon.tracker.gone import target_gone
from icecore.daemon.tracker.layout import Layout, make_layout
from icecore.daemon.tracker.moment import take_moment
from icecore.daemon.tracker.regions import merged
from icecore.daemon.tracker.shared_watch import join
from icecore.inject import Frozen
from icecore.kernel.procfs import Vma
from icecore.storage.runs import EMPTY, Runs, intersect, subtract, union


class WriteProtect:
    """One client's tracker of one target."""

    name = "write-protect"

    def __init__(self, pid: int, ranges: Ranges = (), reason: str = "") -> None:
        self.reason = reason or "the kernel has userfaultfd with WP_ASYNC, and PAGEMAP_SCAN"
        self.pause_us = 0
        self._pid = pid
        self._ranges = ranges
        self._shared, self._claim = join(pid)
        self._closed = False
        self._layout_of: Sequence[Vma] = ()
        self._layout = make_layout((), ranges)

    def arm(self, frozen: Frozen) -> None:
        """Take a userfaultfd out of the target. Nothing is protected before the first ``collect``: that can be live."""
        with self._shared.turn, target_gone(self._pid, self._shared.pagemap):
            self._shared.arm(frozen)

    def alive(self) -> bool:
        """See ``Tracker.alive``."""
        return self._shared.pagemap.has_address_space()

    def worth_a_live_round(self) -> bool:
        """See ``Tracker.worth_a_live_round``: it never stops the target."""
        return True

    def collect(self, vmas: Sequence[Vma]) -> Runs:
        """See ``Tracker.collect``."""
        with self._shared.turn, target_gone(self._pid, self._shared.pagemap):
            return self._shared.collect(self._claim, self._layout_for(vmas))

    def collect_frozen(self, vmas: Sequence[Vma]) -> Collected:
        """See ``Tracker.collect_frozen``. Needs no ``arm``: what nobody watched is dirty."""
        with self._shared.turn, target_gone(self._pid, self._shared.pagemap):
            return self._collect_frozen(self._layout_for(vmas))

    def _collect_frozen(self, layout: Layout) -> Collected:
        shared, watch = self._shared, self._shared.watch
        moment = take_moment(self._pid, shared.pagemap, layout, shared.known(self._claim, layout))
        populated = union(moment.private, moment.shared)
        if watch is None:
            return Collected(populated, populated, moment.zero, moment.guard, EMPTY)
        watch.saw(moment.file)
        in_doubt = populated
        if not shared.foreign.suspected:
            in_doubt = merged([moment.shared, moment.file.doubtful, intersect(moment.private, watch.refused)])
        written = union(moment.written, intersect(moment.private, self._claim.pending))
        return Collected(subtract(written, in_doubt), populated, moment.zero, moment.guard, in_doubt)

    def _layout_for(self, vmas: Sequence[Vma]) -> Layout:
        """The same list as last time, which is common and quick to see, has the same layout."""
        if self._layout_of != vmas:
            self._layout_of, self._layout = vmas, make_layout(vmas, self._ranges)
        return self._layout

    def close(self) -> None:
        """Leave; the last one out closes the userfaultfd: the kernel lifts the protection (22 ms per protected GiB, in
        the target's way)."""
        if not self._closed:
            self._closed = True
            self._shared.leave(self._claim)
