# SPDX-License-Identifier: Apache-2.0
"""A progress bar on stderr: on a terminal only, and only for what takes more than a second."""

import sys
import time
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PATIENCE_SECONDS = 1.0

_WORDS = {
    "check": "Checking",
    "arm": "Starting to track",
    "pre-copy": "Reading while it runs",
    "freeze": "Frozen",
    "write": "Writing",
    "restore": "Restoring",
}


class Bar:
    """``update`` may be called as often as one likes; most calls do nothing but look at the clock."""

    def __init__(self) -> None:
        self._shown_from = time.monotonic() + PATIENCE_SECONDS
        self._wanted = sys.stderr.isatty()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._phase = ""
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def update(self, phase: str, done: int = 0, total: int = 0) -> None:
        """``done`` of ``total`` pages of a phase of the engine (``icecore.daemon.report.Progress``)."""
        if not self._wanted or time.monotonic() < self._shown_from:
            return
        bar = self._shown()
        if self._task is None or phase != self._phase:
            if self._task is not None:
                bar.remove_task(self._task)
            self._phase, self._task = phase, bar.add_task(_WORDS.get(phase, phase), total=total or None)
        bar.update(self._task, completed=done, total=total or None)

    def _shown(self) -> "Progress":
        if self._bar is None:
            from rich.console import Console
            from rich.progress import Progress

            self._bar = self._stack.enter_context(Progress(console=Console(stderr=True), transient=True))
        return self._bar
