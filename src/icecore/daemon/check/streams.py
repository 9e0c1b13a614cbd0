# SPDX-License-Identifier: Apache-2.0
"""Which pipes lead out of the process, and which descriptors a restore may replace by its own standard streams."""

from collections.abc import Iterable, Mapping

from icecore.daemon.check.fds import O_ACCMODE
from icecore.daemon.check.holders import pipe_holders
from icecore.daemon.check.sharing import Group

STANDARD_STREAMS = (0, 1, 2)
PIPE_PREFIX = "pipe:["

Outside = Mapping[int, str]
"""For each pipe (inode) of the process: who else holds it, "" for nobody."""


def is_standard(group: Group) -> bool:
    """Whether one of these descriptors of one description is 0, 1 or 2."""
    return group[0].number in STANDARD_STREAMS


def outside_holders(pid: int, groups: Iterable[Group], known: Outside) -> dict[int, str]:
    """Who holds each pipe beside the process. All of /proc is searched, but only for pipes not in ``known``.

    A standard stream of which only one end is here needs no search: whatever is at the other end, it is not here.
    """
    by_pipe: dict[int, list[Group]] = {}
    for group in groups:
        if group[0].link.startswith(PIPE_PREFIX):
            by_pipe.setdefault(group[0].inode, []).append(group)
    holders = {inode: known.get(inode, "") for inode in by_pipe}
    doubtful = {inode for inode, ends in by_pipe.items() if inode not in known and may_be_private(ends)}
    if doubtful:
        holders |= pipe_holders(pid, doubtful)
    for inode in by_pipe.keys() - known.keys() - doubtful:
        holders[inode] = "another process"
    return holders


def may_be_private(ends: list[Group]) -> bool:
    """False for a pipe that is only a standard stream, and of which only one end is here."""
    modes = {group[0].flags & O_ACCMODE for group in ends}
    return len(modes) > 1 or not all(map(is_standard, ends))
