# SPDX-License-Identifier: Apache-2.0
"""Which descriptors are one open file description: kcmp(2) tells, and gives an order that makes it n log n."""

import errno
from collections.abc import Sequence
from functools import cmp_to_key

from icecore.daemon.check.fds import Fd
from icecore.kernel.kcmp import KCMP_FILE, kcmp

Group = tuple[Fd, ...]
"""Descriptors of one open file description, in ascending order."""

SIGN = (0, -1, 1)
"""From kcmp's 0, 1 (less) and 2 (greater) to what sorting wants."""


def group_descriptions(pid: int, fds: Sequence[Fd]) -> list[Group]:
    """The fds by description. Only those whose link, offset, flags and details agree are compared."""
    alike: dict[tuple[object, ...], list[Fd]] = {}
    for fd in fds:
        alike.setdefault((fd.link, fd.offset, fd.flags, fd.lines), []).append(fd)
    groups = [group for bucket in alike.values() for group in split(pid, bucket)]
    return sorted(groups, key=lambda group: group[0].number)


def split(pid: int, bucket: list[Fd]) -> list[Group]:
    if len(bucket) == 1:
        return [tuple(bucket)]

    def compare(a: Fd, b: Fd) -> int:
        return order(pid, a, b)

    ordered = sorted(bucket, key=cmp_to_key(compare))
    groups = [[ordered[0]]]
    for fd in ordered[1:]:
        if order(pid, groups[-1][-1], fd) == 0:
            groups[-1].append(fd)
        else:
            groups.append([fd])
    return [tuple(sorted(group, key=lambda fd: fd.number)) for group in groups]


def order(pid: int, a: Fd, b: Fd) -> int:
    try:
        return SIGN[kcmp(pid, pid, KCMP_FILE, a.number, b.number)]
    except OSError as error:
        if error.errno == errno.EBADF:  # closed since the table was read, by a process that runs
            return a.number - b.number
        raise
