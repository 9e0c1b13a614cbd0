# SPDX-License-Identifier: Apache-2.0
"""Who else has a pipe or a piece of shared memory: a walk over all of /proc, made only when there is reason to.

Processes that we may not look into (another user's, when we are not root) are passed over.
"""

import os
from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from icecore.kernel import procfs


def pipe_holders(pid: int, inodes: AbstractSet[int]) -> dict[int, str]:
    """For each pipe that another process has open: ``process 42 (cat), fd 3`` of the first one found."""
    links = {f"pipe:[{inode}]": inode for inode in inodes}
    found: dict[int, str] = {}
    for other in other_processes(pid):
        for fd, link in fd_links(other):
            if (inode := links.get(link)) is not None:
                found.setdefault(inode, f"{described(other)}, fd {fd}")
    return found


def mapping_holders(pid: int, objects: AbstractSet[tuple[int, int, int]]) -> dict[tuple[int, int, int], str]:
    """The same for memory objects (major, minor, inode) that another process has mapped."""
    marks = {f" {major:02x}:{minor:02x} {inode} ".encode(): (major, minor, inode) for major, minor, inode in objects}
    found: dict[tuple[int, int, int], str] = {}
    for other in other_processes(pid):
        maps = read_bytes(f"/proc/{other}/maps")
        for mark, key in marks.items():
            if mark in maps:
                found.setdefault(key, described(other))
    return found


def other_processes(pid: int) -> Iterator[str]:
    own = str(pid)
    return (name for name in os.listdir("/proc") if name.isdigit() and name != own)


def fd_links(pid: str) -> Iterator[tuple[str, str]]:
    try:
        directory = os.open(f"/proc/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        for name in os.listdir(directory):
            yield name, read_link(directory, name)
    except OSError:
        return
    finally:
        os.close(directory)


def read_link(directory: int, name: str) -> str:
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError:
        return ""


def read_bytes(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""


def described(pid: str) -> str:
    try:
        return f"process {pid} ({procfs.read_stat(int(pid)).comm})"
    except OSError:
        return f"process {pid}"
