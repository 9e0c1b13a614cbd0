# SPDX-License-Identifier: Apache-2.0
"""The stub's open files, foretold: a new fd is always the lowest free one, so that calls can be listed in advance."""

import fcntl
from collections.abc import Iterable

from icecore.kernel.arch.x86_64 import SYS_close, SYS_fcntl
from icecore.restore.calls import Argument, Calls


class FdTable:
    """Which fd numbers are in use in a process that nobody else acts on."""

    def __init__(self, used: Iterable[int] = ()) -> None:
        self._used = set(used)
        self._hint = 0

    def take_lowest(self) -> int:
        """The number that the next new fd gets."""
        while self._hint in self._used:
            self._hint += 1
        self._used.add(self._hint)
        return self._hint

    def take(self, fd: int) -> None:
        """``fd`` was made by dup3."""
        self._used.add(fd)

    def release(self, fd: int) -> None:
        """``fd`` was closed."""
        self._used.discard(fd)
        self._hint = min(self._hint, fd)

    def new(self, calls: Calls, what: str, number: int, *arguments: Argument) -> int:
        """List a call that returns a new fd, which is returned here."""
        fd = self.take_lowest()
        calls.add(what, number, *arguments, expect=fd)
        return fd

    def move_above(self, calls: Calls, fd: int, lowest: int) -> int:
        """List the moving of a fd to the lowest free number from ``lowest`` on."""
        to = lowest
        while to in self._used:
            to += 1
        calls.add(f"move fd {fd}", SYS_fcntl, fd, fcntl.F_DUPFD, lowest, expect=to)
        self.take(to)
        self.close(calls, fd)
        return to

    def close(self, calls: Calls, fd: int) -> None:
        """List the closing of a fd."""
        calls.add(f"close fd {fd}", SYS_close, fd)
        self.release(fd)
