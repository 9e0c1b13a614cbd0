# SPDX-License-Identifier: Apache-2.0
"""Open files: every description made once, and every fd that shares it."""

import fcntl
import os
import resource

from icecore.errors import CannotRestore
from icecore.kernel.arch.x86_64 import SYS_close_range, SYS_dup3, SYS_fcntl, SYS_lseek, SYS_open
from icecore.kernel.procfs import fd_numbers
from icecore.restore import events
from icecore.restore.calls import Calls
from icecore.restore.fdtable import FdTable
from icecore.restore.pipes import Pipes
from icecore.restore.stub import Stub
from icecore.storage.records import (
    DeviceFile,
    Epoll,
    EventFd,
    Inherited,
    OpenFile,
    PipeEnd,
    Process,
    RegularFile,
    SignalFd,
    TimerFd,
)

_O_TMPFILE = 0o20000000
ONLY_AT_OPEN = os.O_CREAT | os.O_EXCL | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC | _O_TMPFILE
_ROOM = 64
"""fds that restoring needs for itself, above those of the process."""
_UINT_MAX = (1 << 32) - 1


class Files:
    """Puts the fds of a process in place in a stub."""

    def __init__(self, stub: Stub, process: Process, streams: tuple[int, int, int]) -> None:
        self._stub = stub
        self._files = process.files
        self._pipes = Pipes(process.pipes, process.files)
        self._above = max([*(fd for file in process.files for fd in file.fds), *streams]) + 1
        self.fds = self._move_streams(streams)

    def _move_streams(self, streams: tuple[int, int, int]) -> FdTable:
        """The three streams go above every fd that the process needs; all else that the stub inherited is closed."""
        above, calls = self._above, Calls()
        _make_room(self._stub.pid, above + _ROOM)
        inherited = fd_numbers(self._stub.pid)
        calls.add("close inherited fds", SYS_close_range, above, _UINT_MAX, 0)
        for n, fd in enumerate(streams):
            calls.add(f"move stream {n}", SYS_fcntl, fd, fcntl.F_DUPFD, above, expect=above + n)
        if inherited[0] < above:
            calls.add("close inherited fds", SYS_close_range, 0, above - 1, 0)
        self._stub.run(calls)
        return FdTable((above, above + 1, above + 2))

    def restore(self) -> None:
        """Make every description, place its fds, register the epoll targets, close the three streams."""
        calls = Calls()
        for file in self._files:
            if not isinstance(file.description, PipeEnd):
                self._place(calls, file, self._make(calls, file))
        for file, fd in self._pipes.make(calls, self.fds, self._above):
            self._place(calls, file, fd)
        streams = {fd for file in self._files if isinstance(file.description, Inherited) for fd in file.fds}
        for file in self._files:
            if isinstance(file.description, Epoll):
                events.add_targets(calls, file.fds[0], file.description, streams)
        for n in range(3):
            self.fds.close(calls, self._above + n)
        self._stub.run(calls)

    def _make(self, calls: Calls, file: OpenFile) -> int:
        """A fd of the description; not necessarily one of those it belongs at."""
        description = file.description
        match description:
            case RegularFile():
                return self._open_regular(calls, file.fds[0], description)
            case DeviceFile():
                return self._open(calls, file.fds[0], description.path, description.flags)
            case EventFd():
                return events.eventfd(calls, self.fds, description)
            case Epoll():
                return events.epoll(calls, self.fds)
            case TimerFd():
                return events.timerfd(calls, self.fds, description)
            case SignalFd():
                return events.signalfd(calls, self.fds, description)
            case Inherited():
                return self._above + description.stream
            case _:
                raise CannotRestore(f"fd {file.fds[0]} is of a kind that this release does not know: {description}")

    def _open(self, calls: Calls, fd: int, path: str, flags: int) -> int:
        mode = flags & ~ONLY_AT_OPEN | os.O_NOCTTY
        return self.fds.new(calls, f"open {path} (fd {fd})", SYS_open, os.fsencode(path) + b"\0", mode, 0)

    def _open_regular(self, calls: Calls, fd: int, description: RegularFile) -> int:
        made = self._open(calls, fd, description.path, description.flags)
        if description.offset and not description.flags & os.O_PATH:
            what = f"seek in {description.path} (fd {fd})"
            calls.add(what, SYS_lseek, made, description.offset, os.SEEK_SET, expect=description.offset)
        return made

    def _place(self, calls: Calls, file: OpenFile, made: int) -> None:
        """Duplicate ``made`` to every fd of the description; close it if it belongs at none."""
        for fd in file.fds:
            cloexec = fd in file.cloexec
            if fd != made:
                calls.add(f"place fd {fd}", SYS_dup3, made, fd, os.O_CLOEXEC * cloexec, expect=fd)
                self.fds.take(fd)
            elif cloexec:
                calls.add(f"mark fd {fd}", SYS_fcntl, fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        if made not in file.fds and not isinstance(file.description, Inherited):
            self.fds.close(calls, made)


def _make_room(pid: int, needed: int) -> None:
    """Raise the limit on fds for the time being; the process's own limit comes back at the end."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        try:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (needed, max(needed, hard)))
        except (ValueError, PermissionError):
            raise CannotRestore(
                f"the process has open files up to fd {needed - _ROOM}, and the limit is {hard}",
                "raise the limit on open files (ulimit -n, fs.nr_open)",
            ) from None
