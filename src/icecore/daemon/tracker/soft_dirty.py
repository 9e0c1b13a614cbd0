# SPDX-License-Identifier: Apache-2.0
"""Tracking by the soft-dirty marks of the kernel (clear_refs), for kernels or targets without write protection.

Needs nothing inside the target. Each live round but the first stops it for a moment: marks are taken and cleared at one
instant, for the whole process.
"""

from collections.abc import Sequence

from icecore.daemon.quiet import undisturbed
from icecore.daemon.tracker.base import Collected, Ranges
from icecore.daemon.tracker.gone import target_gone
from icecore.daemon.tracker.layout import Layout, make_layout
from icecore.daemon.tracker.regions import merged
from icecore.daemon.tracker.soft_dirty_changes import mergeable, untracked
from icecore.daemon.tracker.soft_dirty_clock import Sight, join
from icecore.daemon.tracker.soft_dirty_pace import Pace
from icecore.inject import Frozen, freeze
from icecore.kernel.procfs import Vma, read_maps
from icecore.storage.runs import EMPTY, Runs, count, intersect, subtract, union


class SoftDirty:
    """One client's tracker of one target.

    ``exact``: what the kernel says is a set of candidates, and wherever its marks may be silent the content decides.
    Otherwise the marks are taken at their word, for private memory.
    """

    name = "soft-dirty"

    def __init__(self, pid: int, ranges: Ranges = (), reason: str = "", exact: bool = True) -> None:
        self.reason = reason or "the kernel marks written pages as soft-dirty"
        self.pause_us = 0
        self._pid = pid
        self._ranges = ranges
        self._exact = exact
        self._clock, self._client = join(pid, ranges)
        self._closed = False
        self._pace = Pace()
        self._named: Runs = EMPTY
        """Data pages that have been named, and were still data when last looked at."""
        self._mergeable: Runs = EMPTY

    def arm(self, frozen: Frozen) -> None:
        """Clear the marks, unless another client has already."""
        with self._clock.turn, target_gone(self._pid, self._clock.pagemap):
            self._clock.start(read_maps(frozen.pid))

    def alive(self) -> bool:
        """See ``Tracker.alive``."""
        return self._clock.pagemap.has_address_space()

    def worth_a_live_round(self) -> bool:
        """See ``Tracker.worth_a_live_round``."""
        if not len(self._client.marked.covered) or (self._pace.stale and not self._exact):
            return True
        return self._pace.worth_while()

    def collect(self, vmas: Sequence[Vma]) -> Runs:
        """See ``Tracker.collect``. Only the first is really live: it reads what nobody has read since the clear."""
        clock = self._clock
        with clock.turn, target_gone(self._pid, clock.pagemap), clock.foreign.arming(clock.distrust):
            found = self._tick() if len(self._client.marked.covered) else self._take_all(vmas)
        self._named = union(self._named, found)
        return found

    def _take_all(self, vmas: Sequence[Vma]) -> Runs:
        layout = make_layout(vmas, self._ranges)
        self._settle(layout)
        found = self._clock.everything(layout)
        self._pace.started()
        return found

    def _tick(self) -> Runs:
        with undisturbed(), freeze(self._pid) as frozen:
            vmas = read_maps(self._pid)
            sight = self._clock.tick(self._client, vmas)
        self.pause_us += frozen.pause_us
        layout = make_layout(vmas, self._ranges)
        found = union(self._marked(layout, sight), self._doubtful(sight))
        self._settle(layout)
        found = intersect(found, intersect(sight.moment.private, layout.everything))
        self._pace.ticked(count(found), frozen.pause_us)
        return found

    def collect_frozen(self, vmas: Sequence[Vma]) -> Collected:
        """See ``Tracker.collect_frozen``."""
        with self._clock.turn, target_gone(self._pid, self._clock.pagemap):
            layout = make_layout(vmas, self._ranges)
            sight = self._clock.look(layout, vmas, self._client.marked.uncovered(layout.scope))
            moment = sight.moment
            dirty = intersect(self._marked(layout, sight), moment.private)
            doubtful = merged([self._never_named(moment.private), self._doubtful(sight), self._silent(layout)])
        self._pace.looked(count(dirty))
        in_doubt = union(subtract(intersect(doubtful, moment.private), dirty), moment.shared)
        return Collected(dirty, union(moment.private, moment.shared), moment.zero, moment.guard, in_doubt)

    def _settle(self, layout: Layout) -> None:
        self._client.marked.settle(layout.scope)
        self._client.doubtful.settle(layout.scope)

    def _marked(self, layout: Layout, sight: Sight) -> Runs:
        """Marked since this client last collected, or never looked at by it."""
        unseen = self._client.marked.uncovered(layout.scope)
        return merged([sight.marked, self._client.marked.pending, unseen])

    def _doubtful(self, sight: Sight) -> Runs:
        return union(sight.doubtful, self._client.doubtful.pending) if self._exact else EMPTY

    def _never_named(self, private: Runs) -> Runs:
        """Data that was none when last looked at, and yet is not marked: in doubt until the next collect."""
        fresh = subtract(private, self._named)
        self._client.doubtful.pending = union(self._client.doubtful.pending, fresh)
        self._named = private
        return fresh

    def _silent(self, layout: Layout) -> Runs:
        """Memory that can change without ever being marked."""
        blind = union(untracked(layout), self._clock.canary.page)
        if not self._exact:
            return blind
        if self._clock.foreign.suspected:
            return layout.everything
        self._mergeable = union(self._mergeable, mergeable(self._pid))
        return union(self._mergeable, blind)

    def close(self) -> None:
        """Leave; marks cost the target nothing that is not paid already."""
        if not self._closed:
            self._closed = True
            self._clock.leave(self._client)
