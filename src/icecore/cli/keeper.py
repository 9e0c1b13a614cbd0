# SPDX-License-Identifier: Apache-2.0
"""Keeping a job: checkpoints at an interval while it runs, the last one when we are told to stop."""

import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from icecore.cli import output
from icecore.cli.child import Child
from icecore.cli.complaints import Complaints
from icecore.cli.inbox import STOPPING, Inbox, block_all_signals, exit_status
from icecore.daemon.report import Report
from icecore.errors import IcecoreError, NoSuchProcess

TakeCheckpoint = Callable[[bool], Report]
"""Takes one checkpoint; the argument: whether the job ends with it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a kept job ended."""

    status: int
    """For our own exit."""
    by_itself: bool
    """It exited, whatever its status; not killed, and not stopped by us."""


class Keeper:
    """Keeps one job. The checkpoints are taken in another thread: signals are passed on meanwhile."""

    def __init__(self, child: Child, take: TakeCheckpoint, interval: float, inbox: Inbox) -> None:
        self._child = child
        self._take = take
        self._inbox = inbox
        self._complaints = Complaints(interval)
        self._running: Future[Report] | None = None
        self._pool = ThreadPoolExecutor(1, initializer=block_all_signals)
        self.taken = 0
        self.last: Report | None = None

    def keep(self) -> Outcome:
        """Until the job ends or a stopping signal comes."""
        with self._pool:
            due = time.monotonic() + self._complaints.pace()
            while True:
                for number in self._inbox.wait(None if self._running else due):
                    if number in STOPPING:
                        return self._stop(number)
                    self._child.send(number)
                if self._child.has_ended():
                    return self._ended()
                if self._running is not None and self._running.done():
                    self._settle()
                    due = max(due + self._complaints.pace(), time.monotonic())
                if self._running is None and time.monotonic() >= due:
                    self._begin(kill=False)

    def _begin(self, *, kill: bool) -> None:
        self._running = self._pool.submit(self._take, kill)
        self._running.add_done_callback(lambda _: self._inbox.wake())

    def _settle(self) -> IcecoreError | None:
        """Waits for the checkpoint on its way, if any, and notes how it went."""
        if self._running is None:
            return None
        running, self._running = self._running, None
        try:
            self.last = running.result()
        except IcecoreError as problem:
            if not self._has_gone(problem):
                self._complaints.failed(problem)
            return problem
        self.taken += 1
        self._complaints.succeeded()
        return None

    def _has_gone(self, problem: IcecoreError) -> bool:
        """The checkpoint failed because the job has ended."""
        return isinstance(problem, NoSuchProcess) and self._child.has_ended()

    def _ended(self) -> Outcome:
        self._settle()
        status = self._child.reap()
        return Outcome(exit_status(status), by_itself=status & 0x7F == 0)

    def _stop(self, number: signal.Signals) -> Outcome:
        """A last checkpoint, with which the job ends; if that fails, the job gets the signal instead."""
        self._settle()
        self._begin(kill=True)
        problem = self._settle()
        if problem is not None and self._has_gone(problem):
            return self._ended()
        if problem is None and self.last is not None:
            output.note(f"stopped at {self.last.name}@{self.last.id}; the same command goes on from there")
        else:
            output.note("the last checkpoint failed (see above): the job is told to stop by itself")
            self._child.send(number)
            while not self._child.has_ended():
                for later in self._inbox.wait():
                    self._child.send(later)
        self._child.reap()
        return Outcome(128 + number, by_itself=False)
