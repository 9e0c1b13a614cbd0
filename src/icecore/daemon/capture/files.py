# SPDX-License-Identifier: Apache-2.0
"""Open file descriptions as records, from one look at the descriptor table."""

from collections.abc import Callable, Iterable, Iterator

from icecore.daemon.capture import events
from icecore.daemon.check.descriptors import Description
from icecore.daemon.check.fds import Fd
from icecore.daemon.check.sharing import Group
from icecore.daemon.check.streams import STANDARD_STREAMS
from icecore.storage import records
from icecore.storage.records import DeviceFile, Inherited, OpenFile, PipeEnd, RegularFile


def open_files(descriptions: Iterable[Description]) -> Iterator[OpenFile]:
    """One record for each description; a terminal that is several standard streams becomes as many."""
    for one in descriptions:
        if one.kind == "inherited":
            yield from inherited(one.fds)
        else:
            yield open_file(one.fds, DESCRIBE[one.kind](one.fds[0]))


def open_file(fds: Iterable[Fd], description: records.Description) -> OpenFile:
    fds = tuple(fds)
    return OpenFile(
        fds=tuple(fd.number for fd in fds),
        cloexec=tuple(fd.number for fd in fds if fd.cloexec),
        description=description,
    )


def inherited(group: Group) -> Iterator[OpenFile]:
    """Each of 0, 1 and 2 gets its own stream at restore; other duplicates follow standard output, if it is here."""
    streams = [fd for fd in group if fd.number in STANDARD_STREAMS]
    others = [fd for fd in group if fd.number not in STANDARD_STREAMS]
    leader = next((fd for fd in streams if fd.number == 1), streams[0])
    for fd in streams:
        members = [fd, *others] if fd is leader else [fd]
        yield open_file(members, Inherited(stream=fd.number, description=describe_stream(fd), flags=fd.flags))


def describe_stream(fd: Fd) -> str:
    return f"terminal {fd.link}" if fd.link.startswith("/dev/") else fd.link


def regular(fd: Fd) -> RegularFile:
    return RegularFile(
        path=fd.link,
        flags=fd.flags,
        offset=fd.offset,
        size=fd.stat.st_size,
        dev=fd.stat.st_dev,
        inode=fd.stat.st_ino,
    )


def directory(fd: Fd) -> RegularFile:
    return RegularFile(
        path=fd.link,
        flags=fd.flags,
        offset=fd.offset,
        size=0,
        dev=fd.stat.st_dev,
        inode=fd.stat.st_ino,
        directory=True,
    )


def device(fd: Fd) -> DeviceFile:
    return DeviceFile(path=fd.link, flags=fd.flags, rdev=fd.stat.st_rdev)


def pipe_end(fd: Fd) -> PipeEnd:
    return PipeEnd(inode=fd.inode, flags=fd.flags)


DESCRIBE: dict[str, Callable[[Fd], records.Description]] = {
    "regular": regular,
    "directory": directory,
    "device-node": device,
    "pipe": pipe_end,
    "eventfd": events.eventfd,
    "epoll": events.epoll,
    "timerfd": events.timerfd,
    "signalfd": events.signalfd,
}
"""A record for each kind that ``check`` lets pass; a new kind is a record, a function here, and its restore."""
