# SPDX-License-Identifier: Apache-2.0
"""One target and its engine: never two checkpoints at once, every failure recorded, nothing left open."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from icecore.daemon.service.authorise import require_unchanged
from icecore.daemon.service.job import Job
from icecore.daemon.service.ports import Engine, Report, Target, Wanted
from icecore.errors import Busy, IcecoreError, TargetGone

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Record:
    """What became of the checkpoints so far."""

    taken: int = 0
    last: Report | None = None
    failures: int = 0
    """In a row."""
    problem: IcecoreError | None = None
    """Of the last checkpoint, if it failed."""
    problem_ns: int = 0


@dataclass(eq=False, slots=True)
class Subject:
    """A target that the daemon holds. Owns the target and the engine; ``close`` lets go of both.

    The engine, and with it the tracker's userfaultfd, lives from one checkpoint to the next. ``open_engine`` opens
    chain and engine (blocking); it is called for the first checkpoint, and again after the engine failed in a way that
    nobody foresaw.
    """

    name: str
    target: Target
    owner: int
    interval: float
    """Seconds."""
    wanted: Wanted
    open_engine: Callable[[], Engine]
    record: Record = field(default_factory=Record)
    exited: bool = False
    closed: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    """Around everything that is done with the target: cancelled to let go of it."""
    nursery: trio.Nursery | None = None
    """Inside ``scope``, while it is held."""
    _stopping: threading.Event = field(default_factory=threading.Event)
    _engine: Engine | None = None
    _lock: trio.Lock = field(default_factory=trio.Lock)
    _limiter: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(1))
    """Of its own: trio's default limiter is shared, and forty slow targets would delay the forty-first."""

    @property
    def state(self) -> str:
        """``starting``, ``waiting``, ``running``, ``failing`` or ``exited``."""
        if self.exited:
            return "exited"
        if self._engine is None and not self.record.failures:
            return "starting"
        if self._lock.locked():
            return "running"
        return "failing" if self.record.failures else "waiting"

    async def prepare(self) -> None:
        """Opens the engine now, which refuses what it could not restore; raises what it raises."""
        await trio.to_thread.run_sync(self._open, limiter=self._limiter)

    def job(self) -> Job:
        """A checkpoint to be taken by ``checkpoint``."""
        return Job(self._stopping)

    async def checkpoint(self, job: Job, kill: bool = False) -> None:
        """Takes one checkpoint when its turn comes. The outcome is in ``job`` and in ``record``; raises nothing."""
        try:
            async with self._lock:
                job.report = await trio.to_thread.run_sync(self._take, job, kill, limiter=self._limiter)
        except IcecoreError as error:
            job.error = error
        except Exception as error:
            log.exception("%s: bug in the checkpoint of pid %d", self.name, self.target.pid)
            job.error = IcecoreError(f"internal error: {error!r}", "the daemon's log has the details: please report it")
        finally:  # also when cancelled before its turn came
            if job.report is None and job.error is None:
                job.error = self._reason_to_stop()
            self._note(job)

    def start(self, kill: bool) -> Job:
        """One checkpoint out of turn, in the background. Busy or TargetGone if there is no telling when."""
        if self.nursery is None or self.exited:
            raise self._reason_to_stop()
        job = self.job()
        self.nursery.start_soon(self._demanded, job, kill)
        return job

    async def _demanded(self, job: Job, kill: bool) -> None:
        try:
            await self.checkpoint(job, kill)
        finally:
            job.finish()

    def stop(self) -> None:
        """Abandons the running checkpoint at its next progress, and ends ``scope``."""
        self._stopping.set()
        self.scope.cancel()

    async def close(self) -> None:
        """Waits for the engine's thread, then lets go of engine and target. Not to be cancelled."""
        with trio.CancelScope(shield=True):
            try:
                await trio.to_thread.run_sync(self._close, limiter=self._limiter)
            except Exception:
                log.exception("%s: bug in closing the engine of pid %d", self.name, self.target.pid)
            self.target.close()
            self.closed.set()

    def _take(self, job: Job, kill: bool) -> Report:
        """In a worker thread."""
        require_unchanged(self.target, self.owner)
        engine = self._open()
        try:
            return engine.checkpoint(kill, job.post)
        except IcecoreError:
            raise
        except Exception as error:
            self._close()
            if not self.target.alive():
                raise self._reason_to_stop(gone=True) from error
            raise

    def _open(self) -> Engine:
        if self._engine is None:
            self._engine = self.open_engine()
        return self._engine

    def _close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def _reason_to_stop(self, gone: bool = False) -> IcecoreError:
        if gone or self.exited:
            return TargetGone(f"process {self.target.pid} ({self.target.comm}) has ended")
        return Busy(f"{self.name} is not held just now: the checkpoint was not taken", "try again")

    def _note(self, job: Job) -> None:
        """The log's line and the record of a finished job."""
        record, report = self.record, job.report
        if report is not None:
            record.taken, record.last, record.failures, record.problem = record.taken + 1, report, 0, None
            log.info(
                "%s@%d: %s of pid %d by %s: pause %d us, %d pages dirty, %d stored, %d bytes",
                *(self.name, report.id, report.kind, self.target.pid, report.tracker, report.pause_us),
                *(report.pages_dirty, report.pages_stored, report.bytes_written),
            )
        elif not self.scope.cancel_called:
            record.failures, record.problem, record.problem_ns = record.failures + 1, job.error, time.time_ns()
            log.warning("%s: checkpoint of pid %d failed: %s", self.name, self.target.pid, job.error)
