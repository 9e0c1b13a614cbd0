# SPDX-License-Identifier: Apache-2.0
"""Pipes inside the process: made empty, filled with the bytes that were unread, each end given its flags."""

import fcntl
import os
from collections.abc import Iterator, Sequence

from icecore.kernel.arch.x86_64 import SYS_fcntl, SYS_open, SYS_pipe2, SYS_write
from icecore.restore.calls import Calls
from icecore.restore.fdtable import FdTable
from icecore.storage.records import OpenFile, Pipe, PipeEnd

_CHUNK = 1 << 16


class Pipes:
    """All pipes of a process, by inode."""

    def __init__(self, pipes: Sequence[Pipe], files: Sequence[OpenFile]) -> None:
        self._pipes = pipes
        self._ends: dict[int, list[tuple[OpenFile, PipeEnd]]] = {}
        for file in files:
            if isinstance(end := file.description, PipeEnd):
                self._ends.setdefault(end.inode, []).append((file, end))

    def make(self, calls: Calls, fds: FdTable, above: int) -> Iterator[tuple[OpenFile, int]]:
        """List the calls; yields each open file that is an end, with a fd of it to be placed.

        The ends wait at fds from ``above`` on: placing one must not overwrite another.
        """
        for pipe in self._pipes:
            low = fds.take_lowest(), fds.take_lowest()
            calls.add(f"make pipe {pipe.inode}", SYS_pipe2, bytes(8), os.O_NONBLOCK)
            reader, writer = (fds.move_above(calls, fd, above) for fd in low)
            what = f"give pipe {pipe.inode} room for {pipe.capacity} bytes"
            calls.add(what, SYS_fcntl, writer, fcntl.F_SETPIPE_SZ, pipe.capacity)
            _fill(calls, pipe, writer)
            yield from self._ends_of(calls, fds, pipe, {os.O_RDONLY: reader, os.O_WRONLY: writer}, above)

    def _ends_of(
        self, calls: Calls, fds: FdTable, pipe: Pipe, made: dict[int, int], above: int
    ) -> list[tuple[OpenFile, int]]:
        """Further descriptions of an end are opened anew while the first is at hand; an end without one is closed."""
        free, ready = dict(made), list[tuple[OpenFile, int]]()
        for file, end in self._ends.get(pipe.inode, ()):
            access = end.flags & os.O_ACCMODE
            fd = free.pop(access, None)
            if fd is None:
                fd = fds.move_above(calls, _reopen(calls, fds, made.get(access, made[os.O_RDONLY]), access), above)
            calls.add(f"set flags of fd {file.fds[0]}", SYS_fcntl, fd, fcntl.F_SETFL, end.flags & ~os.O_ACCMODE)
            ready.append((file, fd))
        for fd in free.values():
            fds.close(calls, fd)
        return ready


def _reopen(calls: Calls, fds: FdTable, fd: int, access: int) -> int:
    """Another description of the same end (what opening /dev/fd/N gives)."""
    path = f"/proc/self/fd/{fd}\0".encode()
    return fds.new(calls, f"reopen pipe fd {fd}", SYS_open, path, access | os.O_NONBLOCK, 0)


def _fill(calls: Calls, pipe: Pipe, writer: int) -> None:
    for start in range(0, len(pipe.data), _CHUNK):
        part = pipe.data[start : start + _CHUNK]
        calls.add(
            f"write {len(part)} bytes into pipe {pipe.inode}", SYS_write, writer, part, len(part), expect=len(part)
        )
