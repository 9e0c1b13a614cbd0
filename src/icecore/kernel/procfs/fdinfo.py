# SPDX-License-Identifier: Apache-2.0
"""/proc/PID/fd and /proc/PID/fdinfo."""

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FdInfo:
    """One file of /proc/PID/fdinfo."""

    pos: int
    flags: int
    """O_*, with O_CLOEXEC."""
    mnt_id: int
    ino: int
    """0 before Linux 5.19."""
    lines: tuple[str, ...]
    """The rest, which depends on the kind of file, line by line: "eventfd-count: 5", "tfd: ...", "lock: ..."."""

    def get(self, key: str) -> str | None:
        """What follows ``key:`` in the first of ``lines`` that begins so, without blanks around it."""
        for line in self.lines:
            name, colon, value = line.partition(":")
            if colon and name.strip() == key:
                return value.strip()
        return None


def read_fdinfo(pid: int, fd: int) -> FdInfo:
    """ENOENT: no such fd (any more)."""
    with open(f"/proc/{pid}/fdinfo/{fd}", "rb", buffering=0) as file:
        return parse_fdinfo(file.readall() or b"")


def parse_fdinfo(text: bytes) -> FdInfo:
    """The common fields as numbers, the others as they are."""
    common = {"pos": 0, "flags": 0, "mnt_id": 0, "ino": 0}
    lines: list[str] = []
    for line in os.fsdecode(text).removesuffix("\n").split("\n"):
        key, colon, value = line.partition(":")
        if colon and key in common:
            common[key] = int(value, 8 if key == "flags" else 10)
        else:
            lines.append(line)
    return FdInfo(**common, lines=tuple(lines))


def fd_numbers(pid: int) -> list[int]:
    """The open descriptors, ascending."""
    return sorted(map(int, os.listdir(f"/proc/{pid}/fd")))


def fd_link(pid: int, fd: int) -> str:
    """Where /proc/PID/fd/N points: a path (perhaps with " (deleted)"), "pipe:[N]", "socket:[N]", "anon_inode:..."."""
    return os.readlink(f"/proc/{pid}/fd/{fd}")
