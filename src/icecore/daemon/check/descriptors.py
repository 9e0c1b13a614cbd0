# SPDX-License-Identifier: Apache-2.0
"""All descriptors of a process at once: what can be restored, as what, and what stands in the way."""

from collections.abc import Iterator
from dataclasses import dataclass

from icecore.daemon.check.epoll import refuse_watches
from icecore.daemon.check.fds import O_DIRECT, Fd, read_fds
from icecore.daemon.check.files import refuse_async, refuse_file, refuse_lock
from icecore.daemon.check.kinds import REFUSED, kind_of, why_refused
from icecore.daemon.check.reason import Reason
from icecore.daemon.check.sharing import Group, group_descriptions
from icecore.daemon.check.sockets import describe_sockets
from icecore.daemon.check.streams import Outside, is_standard, outside_holders

REPLACEABLE = frozenset({"terminal", "socket", "fifo"})
"""As a standard stream, a restore gives its own instead of these; of a pipe too, if it leads outside."""


@dataclass(frozen=True, slots=True)
class Description:
    """One open file description."""

    fds: Group
    kind: str
    """A word of ``kinds.kind_of``, or ``inherited``: a standard stream that leads out of the process."""


@dataclass(frozen=True, slots=True)
class Descriptors:
    """What one look at the descriptor table gave."""

    descriptions: tuple[Description, ...]
    reasons: tuple[Reason, ...]
    outside: Outside
    """Who else holds each pipe: pass it to the next look, and no pipe is searched for twice."""


def read_descriptors(pid: int, known_pipes: Outside) -> Descriptors:
    """Read, group and judge the descriptor table."""
    groups = group_descriptions(pid, read_fds(pid))
    outside = outside_holders(pid, groups, known_pipes)
    descriptions = tuple(Description(group, kind(group, outside)) for group in groups)
    sockets = describe_sockets(pid, {one.fds[0].inode for one in descriptions if one.kind == "socket"})
    reasons = tuple(reason for one in descriptions for reason in refusals(pid, one, outside, sockets))
    return Descriptors(descriptions, reasons, outside)


def kind(group: Group, outside: Outside) -> str:
    word = kind_of(group[0])
    leads_out = word in REPLACEABLE or (word == "pipe" and outside[group[0].inode])
    return "inherited" if leads_out and is_standard(group) else word


def refusals(pid: int, one: Description, outside: Outside, sockets: dict[int, str]) -> Iterator[Reason]:
    """Everything in the way of restoring one description."""
    fd = one.fds[0]
    if reason := refuse_lock(fd) or refuse_async(fd):  # a lease is both
        yield reason
    if one.kind in REFUSED:
        yield Reason(one.kind, f"fd {fd.number}", why_refused(one.kind, fd))
    elif one.kind == "socket":
        yield Reason("socket", f"fd {fd.number}", sockets.get(fd.inode, "socket"))
    elif one.kind == "pipe":
        yield from refuse_pipe(fd, outside[fd.inode])
    elif one.kind == "epoll":
        yield from refuse_watches(pid, fd)
    elif one.kind in ("regular", "directory"):
        yield from filter(None, (refuse_file(fd),))


def refuse_pipe(fd: Fd, holder: str) -> Iterator[Reason]:
    if holder:
        yield Reason("pipe", f"fd {fd.number}", f"{fd.link} is shared with {holder}")
    if fd.flags & O_DIRECT:
        yield Reason("packet-pipe", f"fd {fd.number}", f"{fd.link} is in packet mode (O_DIRECT)")
