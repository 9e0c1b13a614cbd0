# SPDX-License-Identifier: Apache-2.0
"""The checkpoint engine: from a live process to a layer of its chain.

probe and refuse -> pre-copy rounds while the target runs -> freeze -> collect and copy the rest, capture the state ->
thaw -> encode, write, link. Only freeze to thaw is pause. One ``Checkpointer`` belongs to one target and one chain and
keeps the tracker between checkpoints; its calls block and must not overlap.
"""

from contextlib import suppress
from types import TracebackType
from typing import Self

from icecore.daemon.dedicated_thread import run_in_thread
from icecore.daemon.quiet import undisturbed
from icecore.daemon.report import Listener, Progress, Report
from icecore.daemon.round import Round
from icecore.daemon.state import RangeState, State
from icecore.daemon.target import Target
from icecore.daemon.tracker import Ranges, Tracker, choose
from icecore.daemon.tracker.ranges import refuse_empty
from icecore.daemon.tracker.turn import turn_of
from icecore.errors import Busy, CannotRestore, KernelLacks, NotPermitted, StoreCorrupt, TargetGone, UsageError
from icecore.inject import freeze
from icecore.storage.chain import Chain
from icecore.storage.layer import LayerInfo
from icecore.storage.runs import EMPTY, Runs, union

DYING_MS = 50


def _silent(progress: Progress) -> None:
    """Nobody listens."""


class Checkpointer:
    """Takes checkpoints of one target into one chain."""

    def __init__(self, target: Target, chain: Chain, tracker: str, ranges: Ranges, exact: bool) -> None:
        self.target = target
        self.chain = chain
        self._wanted = tracker
        self._ranges = ranges
        self._exact = exact
        self._turn = turn_of(target.pid, target.start_time)
        """Others in this process may track the same target: held to look at it, and as long as it is frozen."""
        self._tracker: Tracker | None = None
        self._keyframe_due = False
        self._owed: Runs = EMPTY
        """Pages collected, and so re-armed, for a checkpoint that then failed: the tracker will not name them again."""

    @classmethod
    def open(
        cls, target: Target, chain: Chain, tracker: str = "auto", ranges: Ranges = (), exact: bool = True
    ) -> "Checkpointer":
        """Prepare; nothing is done to the target yet. ``ranges``: addresses [start, end) in bytes, and names; empty:
        everything. ``exact``: pages that the tracker names are stored only if they changed, and wherever it may miss a
        write their content decides. UsageError: the target has no memory in one of the ranges; the chain is of a whole
        process and this is not, or the other way round."""
        refuse_empty(target.pid, target.label, ranges)
        _refuse_mixture(chain, ranges)
        return cls(target, chain, tracker, ranges, exact)

    def checkpoint(self, kill: bool = False, progress: Listener | None = None) -> Report:
        """Take one checkpoint; with ``kill`` the target ends at exactly the moment that was kept.

        Raises CannotRestore (before the target is frozen, all reasons at once), TargetGone, NotPermitted, Busy and
        StoreUnusable; in every case the target goes on and the chain is as it was.
        """
        # A thread of its own: when it ends, whatever happened in it, the kernel lets go of every thread it traced.
        return run_in_thread(lambda: self._checkpoint(kill, progress or _silent))

    def _checkpoint(self, kill: bool, listen: Listener) -> Report:
        listen(Progress("check"))
        self.target.verify()
        try:
            return self._take(kill, listen)
        except (TargetGone, ProcessLookupError, FileNotFoundError) as error:
            self._forget_tracker()
            raise self._what_happened(error) from error
        except (Busy, CannotRestore, KernelLacks, NotPermitted) as error:
            # A dying process looks like many things. One that was killed meanwhile is gone in a moment.
            if self.target.ends_within(DYING_MS):
                raise self._what_happened(error) from error
            raise

    def _what_happened(self, error: Exception) -> Exception:
        """Why the address space, or a thing in /proc, is not there any more."""
        if not self.target.alive():
            return TargetGone(f"{self.target.label} ended during the checkpoint; the chain is as it was")
        if not isinstance(error, TargetGone):
            return error
        return TargetGone(
            f"{self.target.label} executed another program during the checkpoint; the chain is as it was",
            "the next checkpoint is of the new program",
        )

    def _take(self, kill: bool, listen: Listener) -> Report:
        with self._turn:
            state = RangeState(self.target, self._ranges) if self._ranges else State(self.target)
        tracker, armed_us = self._arm(listen)
        tracker.pause_us = 0
        with (
            self.chain.writer(force_keyframe=self._keyframe_due) as writer,
            Round(self.target.pid, tracker, writer, state, self._owed, self._exact) as work,
        ):
            try:
                work.pre_copy(listen)
                listen(Progress("freeze"))
                with self._turn, undisturbed(), freeze(self.target.pid) as frozen:
                    work.frozen(frozen)
                    if kill:
                        info = work.commit(listen, armed_us + tracker.pause_us + frozen.elapsed_us())
                        frozen.kill()
                        return self._succeeded(info)
                return self._succeeded(work.commit(listen, armed_us + tracker.pause_us + frozen.pause_us))
            except BaseException:
                self._owed = union(self._owed, work.collected)
                raise

    def _succeeded(self, info: LayerInfo) -> Report:
        self._owed, self._keyframe_due = EMPTY, False
        return _report(self.chain.name, self.target.pid, info)

    def _arm(self, listen: Listener) -> tuple[Tracker, int]:
        """A tracker for this address space; microseconds for which the target was stopped for it."""
        if self._tracker is not None and self._tracker.alive():
            return self._tracker, 0
        self._forget_tracker()
        listen(Progress("arm"))
        tracker = choose(self.target.pid, self._wanted, self._ranges, self._exact)
        try:
            with self._turn, undisturbed(), freeze(self.target.pid) as frozen:
                tracker.arm(frozen)
        except BaseException:
            tracker.close()
            raise
        self._tracker = tracker
        return tracker, frozen.pause_us

    def _forget_tracker(self) -> None:
        """Another program runs in the target now, or none: what was tracked is gone with its memory."""
        if self._tracker is not None:
            self._tracker.close()
            self._tracker, self._keyframe_due, self._owed = None, True, EMPTY

    def close(self) -> None:
        """Stop tracking; the kernel lifts the protection when the userfaultfd is closed."""
        if self._tracker is not None:
            self._tracker.close()
            self._tracker = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _refuse_mixture(chain: Chain, ranges: Ranges) -> None:
    """The newest checkpoint of a chain is what its users restore: it must be what they took the others to be."""
    with suppress(StoreCorrupt):
        newest = chain.newest()
        if newest is not None and newest.ranges != bool(ranges):
            kept = "ranges of a process" if newest.ranges else "whole processes"
            raise UsageError(f"the chain {chain.name} keeps {kept}: this is the other kind", "give another name")


def _report(name: str, pid: int, info: LayerInfo) -> Report:
    return Report(
        name=name,
        pid=pid,
        id=info.id,
        kind=info.kind,
        tracker=info.tracker,
        tracker_reason=info.tracker_reason,
        rounds=info.rounds,
        pause_us=info.pause_us,
        pages_populated=info.pages_populated,
        pages_dirty=info.pages_dirty,
        pages_stored=info.pages_stored,
        bytes_raw=info.bytes_raw,
        bytes_written=info.bytes_written,
    )
