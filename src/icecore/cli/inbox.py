# SPDX-License-Identifier: Apache-2.0
"""Signals and the end of a process as things to wait for, side by side."""

import os
import selectors
import signal
import socket
import time
from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import Self

PASSED_ON = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCONT)
STOPPING = (signal.SIGTERM, signal.SIGINT)
ALL = frozenset((*PASSED_ON, *STOPPING, signal.SIGQUIT))


class Inbox:
    """While open, signals arrive as bytes on a socket instead of interrupting, and descriptors can be waited for too.

    For the main thread only. Handlers, unlike blocked signals, are not inherited by the programs we start.
    """

    def __init__(self, readable: Iterable[int] = ()) -> None:
        self._read, self._write = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        for fd in (self._read.fileno(), *readable):
            self.watch(fd)

    def __enter__(self) -> Self:
        self._read.setblocking(False)
        self._write.setblocking(False)
        self._before = {number: signal.signal(number, _noted) for number in ALL}
        self._wakeup = signal.set_wakeup_fd(self._write.fileno())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._selector.close()
        self._read.close()
        self._write.close()

    def watch(self, fd: int) -> None:
        """From now on the wait returns, too, when ``fd`` is readable."""
        self._selector.register(fd, selectors.EVENT_READ)

    def wake(self) -> None:
        """Makes the wait return; from any thread."""
        self._write.send(b"\0")

    def wait(self, deadline: float | None = None) -> list[signal.Signals]:
        """Waits for a signal, a descriptor, a ``wake`` or the deadline (monotonic seconds); the signals that came."""
        self._selector.select(None if deadline is None else max(0.0, deadline - time.monotonic()))
        try:
            numbers = self._read.recv(4096)
        except BlockingIOError:
            return []
        return [signal.Signals(number) for number in numbers if number in ALL]


def _noted(number: int, frame: FrameType | None) -> None:
    """The wakeup descriptor has told already."""


def block_all_signals() -> None:
    """For threads that must not be interrupted: an EINTR in the middle of a scan costs it its result."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def exit_status(wait_status: int) -> int:
    """What a shell would report: the exit code, or 128 + the signal that killed it."""
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code
