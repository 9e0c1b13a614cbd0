# SPDX-License-Identifier: Apache-2.0
"""The targets of an epoll set, and whether each is still the file that its descriptor number names."""

import errno
from collections.abc import Iterator
from dataclasses import dataclass

from icecore.daemon.check.fds import Fd
from icecore.daemon.check.reason import Reason
from icecore.kernel.kcmp import kcmp_epoll_target


@dataclass(frozen=True, slots=True)
class Watch:
    """One ``tfd:`` line of fdinfo."""

    fd: int
    events: int
    data: int


def watches(fd: Fd) -> list[Watch]:
    """``tfd:        5 events:       1d data: ffffffffffffffff  pos:0 ino:61af sdev:7``, numbers after tfd in hex."""
    return [parse(line.split()) for line in fd.lines if line.startswith("tfd:")]


def parse(words: list[str]) -> Watch:
    return Watch(int(words[1]), int(words[3], 16), int(words[5], 16))


def refuse_watches(pid: int, fd: Fd) -> Iterator[Reason]:
    """A set keeps watching a file after the descriptor it was added by was closed (or names another), as long as any
    duplicate of it is open. Nobody can add such a target again."""
    seen: dict[int, int] = {}
    for watch in watches(fd):
        nth = seen.get(watch.fd, 0)
        seen[watch.fd] = nth + 1
        if nth or not names_target(pid, fd.number, watch.fd):
            yield Reason("epoll", f"fd {fd.number}", f"epoll set watches a file that is no longer its fd {watch.fd}")


def names_target(pid: int, epoll: int, fd: int) -> bool:
    try:
        return kcmp_epoll_target(pid, epoll, fd) == 0
    except OSError as error:
        if error.errno in (errno.EBADF, errno.ENOENT):
            return False
        raise
