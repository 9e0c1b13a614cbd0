# SPDX-License-Identifier: Apache-2.0
"""One checkpoint on its way: the engine's thread reports, at most one task watches, neither waits for the other."""

import threading

import trio

from icecore.daemon.service.ports import Progress, Report
from icecore.errors import Busy, IcecoreError

FREEZE = "freeze"
"""The phase that the engine announces right before it stops the target."""


class Job:
    """Progress and outcome of one checkpoint. Made in the trio thread."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._token = trio.lowlevel.current_trio_token()
        self._changed = trio.Event()
        self._latest: Progress | None = None
        self._finished = False
        self._watched = False
        self.report: Report | None = None
        self.error: IcecoreError | None = None

    def post(self, progress: Progress) -> None:
        """Called by the engine in its thread; never blocks. Only the latest progress is kept, so that a watcher that
        does not read costs nothing. Raises Busy to abandon the checkpoint when the daemon shuts down."""
        if self._stopping.is_set():
            raise Busy("the daemon is shutting down: the checkpoint was abandoned", "try again when it is back")
        self._latest = progress
        # Before the freeze, no thread of ours is woken to compete for the interpreter: the target would wait for it.
        if self._watched and progress.phase != FREEZE:
            self._token.run_sync_soon(self._wake, idempotent=True)

    def finish(self) -> None:
        """No more progress; ``report`` or ``error`` is set."""
        self._finished = True
        self._wake()

    async def next_progress(self) -> Progress | None:
        """The latest progress that was not seen yet, or None once the job is finished."""
        self._watched = True
        while self._latest is None and not self._finished:
            await self._change()
        latest, self._latest = self._latest, None
        return None if self._finished else latest

    def result(self) -> Report:
        """The report of a finished job, or the error that it ended with."""
        if self.report is None:
            raise self.error or IcecoreError("the checkpoint was not taken")
        return self.report

    async def wait(self) -> None:
        """Until the job is finished."""
        while not self._finished:
            await self._change()

    async def _change(self) -> None:
        self._changed = trio.Event()
        await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
