# SPDX-License-Identifier: Apache-2.0
"""The descriptor table of a process, read with few system calls: link, fdinfo and stat of every fd."""

import os
from dataclasses import dataclass

O_ACCMODE = 0o3
O_ASYNC = 0o20000
O_DIRECT = 0o40000
O_PATH = 0o10000000
O_CLOEXEC = 0o2000000

FDINFO_ROOM = 1 << 16


@dataclass(frozen=True, slots=True)
class Fd:
    """One descriptor."""

    number: int
    link: str
    """Where /proc/PID/fd/N points: a path, ``pipe:[123]``, ``anon_inode:[eventfd]``."""
    offset: int
    flags: int
    """Of the open file description, O_CLOEXEC (the descriptor's own) taken out."""
    cloexec: bool
    mount_id: int
    lines: tuple[str, ...]
    """What fdinfo says beyond pos, flags, mnt_id and ino."""
    stat: os.stat_result

    @property
    def inode(self) -> int:
        """Of the file behind it; all eventfds and the like share one."""
        return self.stat.st_ino

    def values(self) -> dict[str, str]:
        """The extra lines of the form ``name: value``."""
        return {name: value.strip() for name, _, value in (line.partition(":") for line in self.lines)}


def read_fds(pid: int) -> list[Fd]:
    """All descriptors in ascending order. Those closed while the table is read are left out."""
    links = os.open(f"/proc/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        infos = os.open(f"/proc/{pid}/fdinfo", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            found = (read_fd(links, infos, name) for name in sorted(os.listdir(links), key=int))
            return [fd for fd in found if fd is not None]
        finally:
            os.close(infos)
    finally:
        os.close(links)


def read_fd(links: int, infos: int, name: str) -> Fd | None:
    try:
        link = os.readlink(name, dir_fd=links)
        stat = os.stat(name, dir_fd=links)
        text = read_text(infos, name)
    except FileNotFoundError:
        return None
    return parse(int(name), link, stat, text)


def read_text(directory: int, name: str) -> str:
    """A whole small file of /proc; only an epoll with hundreds of targets needs more than one read."""
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        text = os.read(fd, FDINFO_ROOM)
        while more := os.read(fd, FDINFO_ROOM) if len(text) >= 1024 else b"":
            text += more
    finally:
        os.close(fd)
    return text.decode("utf-8", "surrogateescape")


def parse(number: int, link: str, stat: os.stat_result, text: str) -> Fd:
    """fdinfo begins with pos, flags (octal), mnt_id and, since Linux 5.14, ino; the rest depends on the kind."""
    lines = text.splitlines()
    flags = int(lines[1][6:], 8)
    extra = 4 if len(lines) > 3 and lines[3].startswith("ino:") else 3
    return Fd(
        number,
        link,
        int(lines[0][4:]),
        flags & ~O_CLOEXEC,
        bool(flags & O_CLOEXEC),
        int(lines[2][7:]),
        tuple(lines[extra:]),
        stat,
    )
