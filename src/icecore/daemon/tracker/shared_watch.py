# SPDX-License-Identifier: Apache-2.0
"""The write protection of one address space, for all who track it: a second userfaultfd would get EBUSY.

One descriptor, one ``Watch``, one scan that re-arms; ``Claims`` keeps what was collected for one client pending for the
others. Whoever calls holds the ``Turn`` of the process.
"""

import os
import threading

import numpy as np

from icecore.daemon.tracker.claims import Claim, Claims
from icecore.daemon.tracker.foreign import Foreign
from icecore.daemon.tracker.gone import target_gone
from icecore.daemon.tracker.layout import Layout
from icecore.daemon.tracker.moment import NOTHING_KNOWN, Known, make_known, take_moment
from icecore.daemon.tracker.regions import POPULATED, classes, is_data, runs_of
from icecore.daemon.tracker.turn import Turn, turn_of
from icecore.daemon.tracker.watch import Watch
from icecore.errors import KernelLacks
from icecore.inject import Frozen, steal_userfaultfd
from icecore.kernel.pagemap import Pagemap
from icecore.kernel.procfs import read_stat
from icecore.kernel.userfaultfd import UFFD_FEATURE_WP_ASYNC, api
from icecore.storage.records import PAGE_SIZE
from icecore.storage.runs import EMPTY, Runs, intersect, union

NEAR = 512
"""Pages between two runs that are rather scanned than skipped: one page table."""


class SharedWatch:
    """Made by ``join``; ends with its last client."""

    def __init__(self, pid: int, turn: Turn) -> None:
        """Raises FileNotFoundError, PermissionError."""
        self.pid = pid
        self.turn = turn
        self.pagemap = Pagemap(pid)
        self.claims = Claims()
        self.watch: Watch | None = None
        self.foreign = Foreign(pid)
        self._userfaultfd = -1
        self._known: tuple[tuple[Layout, Runs, object], Known] | None = None
        """Of one client, and what it holds good for, by identity."""

    def arm(self, frozen: Frozen) -> None:
        """Take a userfaultfd out of the target, once for all clients."""
        if self.watch is not None:
            return
        self._userfaultfd = steal_userfaultfd(frozen)
        try:
            api(self._userfaultfd, UFFD_FEATURE_WP_ASYNC)
        except OSError as error:
            raise KernelLacks(
                f"the kernel refuses asynchronous write protection: {error.strerror}",
                "use `--tracker content`; `icecore doctor` tells what this kernel can do",
            ) from error
        self.watch = Watch(self.pid, self.pagemap, self._userfaultfd)

    def collect(self, claim: Claim, layout: Layout) -> Runs:
        """What was written in a client's ranges since its last call, whoever's scan found it."""
        if self.watch is None:
            raise RuntimeError("collect before arm")
        try:
            with self.foreign.arming(self.claims.distrust):
                return self._collect(self.watch, claim, layout)
        except BaseException:
            self.claims.distrust()
            raise

    def _collect(self, watch: Watch, claim: Claim, layout: Layout) -> Runs:
        untold = watch.registered(claim.uncovered(layout.scope))
        found = watch.collect(layout)
        self.claims.collected(claim, found)
        if len(untold):
            found = union(found, intersect(self._data(watch, layout), untold))
        found = union(found, self._populated(claim.settle(layout.scope)))
        self.known(claim, layout)  # now, not while the target is frozen
        return found

    def known(self, claim: Claim, layout: Layout) -> Known:
        """What a client may trust of the bits of a frozen target."""
        if self.watch is None:
            return NOTHING_KNOWN
        key = (layout, claim.covered, self.watch.version)
        if self._known is None or any(old is not new for old, new in zip(self._known[0], key, strict=True)):
            unwatched = union(self.watch.unwatched(layout), claim.uncovered(layout.scope))
            self._known = key, make_known(layout, unwatched, self.watch.copies, quick=True)
        return self._known[1]

    def _data(self, watch: Watch, layout: Layout) -> Runs:
        moment = take_moment(self.pid, self.pagemap, layout, make_known(layout, watch.unwatched(layout), watch.copies))
        return union(moment.private, moment.shared)

    def _populated(self, pages: Runs) -> Runs:
        """Without those that were discarded since: reading one would bring a page into being in the target."""
        if not len(pages):
            return EMPTY
        far = np.flatnonzero(pages[1:, 0] - pages[:-1, 1] > NEAR)
        starts = pages[np.concatenate(([0], far + 1)), 0] * np.uint64(PAGE_SIZE)
        ends = pages[np.concatenate((far, [len(pages) - 1])), 1] * np.uint64(PAGE_SIZE)
        spans = zip(starts.tolist(), ends.tolist(), strict=True)
        regions = self.pagemap.scan_spans(spans, anyof=POPULATED, returned=classes())
        return intersect(pages, runs_of(regions, is_data(regions)))

    def leave(self, claim: Claim) -> None:
        """One client less; with the last one the kernel lifts the protection."""
        with self.turn:
            released = self.claims.leave(claim)
            if not len(self.claims):
                self._close()
            elif self.watch is not None and len(released):
                self.watch.release(released)

    def _close(self) -> None:
        with _guard:
            if _watches.get(self.turn) is self:
                del _watches[self.turn]
        self.pagemap.close()
        if self._userfaultfd >= 0:
            os.close(self._userfaultfd)
            self._userfaultfd = -1


_watches: dict[Turn, SharedWatch] = {}
"""One for each process that is tracked; of its newest address space, after an exec."""
_guard = threading.Lock()


def join(pid: int) -> tuple[SharedWatch, Claim]:
    """The watch of the address space that the process has now, and the newcomer's share. Raises TargetGone."""
    with target_gone(pid):
        turn = turn_of(pid, read_stat(pid).start_time)
        with turn, _guard:
            found = _watches.get(turn)
            if found is None or not found.pagemap.has_address_space():
                found = _watches[turn] = SharedWatch(pid, turn)
            return found, found.claims.join()
