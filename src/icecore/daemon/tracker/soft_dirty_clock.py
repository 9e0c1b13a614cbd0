# SPDX-License-Identifier: Apache-2.0
"""The soft-dirty marks of one address space, for all who track it: clearing takes them from everybody at once.

Every clear is a tick of the ``Clock``: what was marked until then stays pending for each client that was not told.
Looks and ticks happen while the target is frozen, since a write between the scan and the clear would be lost. Whoever
calls holds the ``Turn`` of the process.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from icecore.daemon.tracker.base import Ranges
from icecore.daemon.tracker.claims import Claim, Claims
from icecore.daemon.tracker.foreign import Foreign
from icecore.daemon.tracker.gone import target_gone
from icecore.daemon.tracker.layout import Layout, make_layout
from icecore.daemon.tracker.moment import Moment, make_known, take_moment
from icecore.daemon.tracker.proof import NOT_SOFT_DIRTY
from icecore.daemon.tracker.soft_dirty_canary import Canary
from icecore.daemon.tracker.soft_dirty_changes import changed, touching
from icecore.daemon.tracker.soft_dirty_frames import Frames
from icecore.daemon.tracker.soft_dirty_probe import keeps_marks_when_merging, scanner
from icecore.daemon.tracker.turn import Turn, turn_of
from icecore.kernel.clear_refs import clear_soft_dirty
from icecore.kernel.pagemap import Pagemap
from icecore.kernel.procfs import Vma, read_stat
from icecore.storage.runs import EMPTY, Runs, intersect, subtract, union


@dataclass(eq=False, slots=True)
class Client:
    """One tracker's share of the clock."""

    ranges: Ranges
    marked: Claim
    doubtful: Claim


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look found since the last clear: data pages."""

    moment: Moment
    marked: Runs
    """Soft-dirty, they or their mapping."""
    doubtful: Runs
    """In mappings of which the marks may be silent; marked or not."""


@dataclass(eq=False, slots=True)
class Clock:
    """Made by ``join``; ends with its last client."""

    pid: int
    turn: Turn
    pagemap: Pagemap
    clients: list[Client] = field(default_factory=list[Client])
    foreign: Foreign = field(init=False)
    _marked: Claims = field(default_factory=Claims)
    _doubtful: Claims = field(default_factory=Claims)
    _mappings: Sequence[Vma] = ()
    """As they were at the last clear."""
    _ticking: bool = False
    _copies: Runs = field(default_factory=lambda: EMPTY)
    """Pages of private file mappings that are the process's own, but for marked ones; where clients have looked."""
    canary: Canary = field(init=False)
    _frames: Frames = field(init=False)

    def __post_init__(self) -> None:
        self.foreign = Foreign(self.pid)
        self.canary = Canary(self.pid, self.pagemap)
        self._frames = Frames(self.pagemap)
        # Tried once, now: not while a target is frozen.
        scanner(self.pagemap)
        keeps_marks_when_merging()

    def join(self, ranges: Ranges) -> Client:
        """A new client, to which all of its ranges are new."""
        client = Client(ranges, self._marked.join(), self._doubtful.join())
        self.clients.append(client)
        return client

    def start(self, vmas: Sequence[Vma]) -> None:
        """The first clear; the others' marks are good for a newcomer too."""
        if not self._ticking:
            self._clear(vmas, self.everything(make_layout(vmas, self._ranges())))

    def look(self, layout: Layout, vmas: Sequence[Vma], unseen: Runs) -> Sight:
        """What is marked now; ``unseen``: pages that the caller has not looked at before."""
        suspect = layout.everything if self.canary.is_dead() else self._suspect(vmas)
        moment = self._take(layout, union(suspect, unseen))
        marked = subtract(moment.told, self.canary.page)
        return Sight(moment, marked, intersect(moment.private, suspect))

    def everything(self, layout: Layout) -> Runs:
        """All data pages of a running target. A page that changes class meanwhile is marked, or its mapping changed."""
        return self._take(layout, layout.everything).private

    def _take(self, layout: Layout, unwatched: Runs) -> Moment:
        known = make_known(layout, unwatched, self._copies)
        moment = take_moment(self.pid, scanner(self.pagemap), layout, known, NOT_SOFT_DIRTY)
        self._copies = union(subtract(self._copies, moment.file.looked_at), moment.file.copies)
        return moment

    def _suspect(self, vmas: Sequence[Vma]) -> Runs:
        suspect = union(changed(self._mappings, vmas), self._frames.moved())
        return suspect if keeps_marks_when_merging() else union(suspect, touching(vmas))

    def tick(self, client: Client, vmas: Sequence[Vma]) -> Sight:
        """Look for everybody, note it for the others, clear."""
        layout = make_layout(vmas, self._ranges())
        try:
            sight = self.look(layout, vmas, client.marked.uncovered(layout.scope))
            self._marked.collected(client.marked, sight.marked)
            self._doubtful.collected(client.doubtful, sight.doubtful)
            self._clear(vmas, sight.moment.private)
        except BaseException:
            self.distrust()
            raise
        return sight

    def distrust(self) -> None:
        """Everybody looks at everything again."""
        self._marked.distrust()
        self._doubtful.distrust()

    def _ranges(self) -> Ranges:
        if not all(client.ranges for client in self.clients):
            return ()
        return tuple(one for client in self.clients for one in client.ranges)

    def _clear(self, vmas: Sequence[Vma], data: Runs) -> None:
        clear_soft_dirty(self.pid)
        self._frames.remember(data)
        self._mappings, self._ticking = vmas, True
        self.canary.mark(vmas)

    def leave(self, client: Client) -> None:
        """One client less."""
        with self.turn:
            self.clients.remove(client)
            self._marked.leave(client.marked)
            self._doubtful.leave(client.doubtful)
            if self.clients:
                return
            with _guard:
                if _clocks.get(self.turn) is self:
                    del _clocks[self.turn]
            self.pagemap.close()


_clocks: dict[Turn, Clock] = {}
"""One for each process that is tracked; of its newest address space, after an exec."""
_guard = threading.Lock()


def join(pid: int, ranges: Ranges) -> tuple[Clock, Client]:
    """The clock of the address space that the process has now, and the newcomer's share. Raises TargetGone."""
    with target_gone(pid):
        turn = turn_of(pid, read_stat(pid).start_time)
        with turn, _guard:
            found = _clocks.get(turn)
            if found is None or not found.pagemap.has_address_space():
                found = _clocks[turn] = Clock(pid, turn, Pagemap(pid))
            return found, found.join(ranges)
