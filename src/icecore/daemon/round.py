# SPDX-License-Identifier: Apache-2.0
"""The work of one checkpoint: live rounds that copy while the target runs, the frozen one, and the commit.

Collect, then read: a page written after it was collected is named again by the next round. The last round is frozen, so
what it reads is one moment; pages torn in earlier rounds are always read again in a later one.
"""

from types import TracebackType
from typing import Self

from icecore.daemon.page_reader import PageReader
from icecore.daemon.report import Listener, Progress
from icecore.daemon.spool import Spool
from icecore.daemon.state import ProcessState
from icecore.daemon.tracker import Collected, Tracker
from icecore.errors import CannotRestore
from icecore.inject import Frozen
from icecore.kernel.procfs import read_maps
from icecore.storage.hashing import PageData
from icecore.storage.layer import LayerInfo, LayerStats
from icecore.storage.layer_writer import LayerWriter
from icecore.storage.records import PAGE_SIZE
from icecore.storage.runs import (
    EMPTY,
    Pages,
    Runs,
    contains,
    count,
    from_pages,
    intersect,
    split_blocks,
    subtract,
    union,
)

PAGES_PER_BLOCK = 256
SMALL = 128
"""Pages that may be left for the frozen round: about 0.1 ms of reading."""
MAX_ROUNDS = 10
SHRINKS = 0.7
"""A round that leaves more than this share of the one before it is the last: the target writes as fast as we read."""


class Round:
    """Everything between the first collect and the linked layer."""

    def __init__(
        self, pid: int, tracker: Tracker, writer: LayerWriter, state: ProcessState, owed: Runs, exact: bool = True
    ) -> None:
        self._pid = pid
        self._tracker = tracker
        self._writer = writer
        self._state = state
        self._exact = exact
        self._reader = PageReader(pid)
        self._spool = Spool(writer.directory)
        self.collected: Runs = EMPTY
        """All pages that this checkpoint took from the tracker."""
        self._pending: Runs = owed
        """To be read in the next round whatever the tracker says: owed by a failed checkpoint, or unreadable so far."""
        self._have: Runs = writer.known
        """Pages whose bytes the parent or this layer has."""
        self._rounds = 0
        self._pages_read = 0

    def pre_copy(self, listen: Listener) -> None:
        """Live rounds until little is left or it stops shrinking."""
        last = None
        while self._rounds < MAX_ROUNDS and self._tracker.worth_a_live_round():
            left = self._live_round(listen)
            if left <= SMALL or (last is not None and left > last * SHRINKS):
                break
            last = left

    def _live_round(self, listen: Listener) -> int:
        dirty = self._tracker.collect(read_maps(self._pid))
        self.collected = union(self.collected, dirty)
        wanted, self._pending = union(dirty, self._pending), EMPTY
        total, done = count(wanted), 0
        for block in split_blocks(wanted, PAGES_PER_BLOCK):
            pages, data, unreadable = self._reader.read(block)
            self._add(pages, data, dirty)
            self._pending = union(self._pending, from_pages(unreadable))
            done += pages.size
            listen(Progress("pre-copy", done, total))
        self._have = union(self._have, subtract(wanted, self._pending))
        self._rounds += 1
        self._pages_read += done
        return total

    def frozen(self, frozen: Frozen) -> None:
        """While the target stands still: what is populated, the pages not read since their last write, the state."""
        vmas = read_maps(self._pid)
        self._moment = self._tracker.collect_frozen(vmas)
        self._copy_rest(self._moment)
        self._state.capture(frozen, vmas)

    def _copy_rest(self, moment: Collected) -> None:
        candidates = union(union(moment.dirty, moment.in_doubt), self._pending)
        unknown = subtract(moment.populated, self._have)
        wanted = union(intersect(candidates, moment.populated), unknown)
        for block in split_blocks(wanted, PAGES_PER_BLOCK):
            pages, data, unreadable = self._reader.read(block)
            if unreadable.size:
                raise self._unreadable(int(unreadable[0]) * PAGE_SIZE)
            self._spool.append(pages, data)
        self._rounds += 1
        self._pages_read += count(wanted)

    def _unreadable(self, address: int) -> CannotRestore:
        return CannotRestore(
            f"memory at {address:#x} of process {self._pid} cannot be read",
            "a device or a file that was truncated may be mapped there: see /proc/PID/maps",
        )

    def _add(self, pages: Pages, data: PageData, told: Runs) -> None:
        """``told``: what the tracker says was written, which is stored unseen unless the policy is exact."""
        self._writer.add(pages, data, None if self._exact else contains(told, pages))

    def commit(self, listen: Listener, paused_us: int) -> LayerInfo:
        """Encode what was copied while frozen, write the layer and link it into the chain."""
        process = self._state.complete()
        total, done = self._pages_read, 0
        listen(Progress("write", done, total))
        for pages, data in self._spool.blocks():
            self._add(pages, data, self._moment.dirty)
            done += pages.size
            listen(Progress("write", done, total))
        stats = LayerStats(
            tracker=self._tracker.name,
            tracker_reason=self._tracker.reason,
            rounds=self._rounds,
            pause_us=paused_us,
            pages_dirty=self._pages_read,
        )
        moment = self._moment
        return self._writer.commit(process, moment.populated, moment.zero, moment.guard, stats)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.close()
        self._spool.__exit__(kind, error, trace)
