# SPDX-License-Identifier: Apache-2.0
"""What lies unread in the pipes of a process: peeked at by tee(2), never taken out."""

import array
import fcntl
import os
import termios
from collections.abc import Iterable, Iterator

from icecore.daemon.check.descriptors import Description
from icecore.daemon.check.fds import O_ACCMODE, Fd
from icecore.kernel.pidfd import pidfd_getfd, pidfd_open
from icecore.kernel.splice import tee
from icecore.storage.records import Pipe


def capture_pipes(pid: int, descriptions: Iterable[Description]) -> Iterator[Pipe]:
    """Every pipe among the descriptions, once, by an end that can be read from if there is one."""
    ends: dict[int, Fd] = {}
    for one in descriptions:
        fd = one.fds[0]
        if one.kind == "pipe" and (fd.inode not in ends or can_read(fd)):
            ends[fd.inode] = fd
    if not ends:
        return
    pidfd = pidfd_open(pid)
    try:
        for inode, fd in ends.items():
            yield capture_pipe(pidfd, inode, fd)
    finally:
        os.close(pidfd)


def can_read(fd: Fd) -> bool:
    return fd.flags & O_ACCMODE != os.O_WRONLY


def capture_pipe(pidfd: int, inode: int, fd: Fd) -> Pipe:
    """By a duplicate of the target's own descriptor: opening the pipe anew would add a reader for a moment.

    Without a reader the content is lost to everybody, and is not kept.
    """
    own = pidfd_getfd(pidfd, fd.number)
    try:
        capacity = fcntl.fcntl(own, fcntl.F_GETPIPE_SZ)
        return Pipe(inode=inode, capacity=capacity, data=peek(own, capacity) if can_read(fd) else b"")
    finally:
        os.close(own)


def unread(pipe: int) -> int:
    """FIONREAD: bytes in the pipe."""
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


def peek(pipe: int, capacity: int) -> bytes:
    """All bytes in the pipe. tee always begins at the oldest, so our own pipe must be as large."""
    length = unread(pipe)
    if not length:
        return b""
    copy, feed = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.fcntl(feed, fcntl.F_SETPIPE_SZ, capacity)
        data = read_all(copy, tee(pipe, feed, length))
    finally:
        os.close(copy)
        os.close(feed)
    if len(data) != length:
        raise OSError(f"pipe holds {length} bytes, {len(data)} could be copied")
    return data


def read_all(fd: int, length: int) -> bytes:
    """Exactly ``length`` bytes."""
    data = b""
    while len(data) < length:
        data += os.read(fd, length - len(data))
    return data
