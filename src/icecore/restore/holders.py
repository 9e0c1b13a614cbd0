# SPDX-License-Identifier: Apache-2.0
"""Who has a pid."""

import os
from collections.abc import Iterator
from contextlib import suppress

from icecore.kernel.procfs import Stat, read_stat, read_status


def is_free(pid: int) -> bool:
    """Whether no process or thread has that id; it may still name a process group or session, see ``who_holds``."""
    return not os.path.exists(f"/proc/{pid}")


def who_holds(pid: int) -> str:
    """For people: the process or thread with that id, or the one whose process group or session it names."""
    with suppress(OSError):
        return _holder(pid)
    for stat in _processes():
        if pid in (stat.pgrp, stat.session):
            what = "session" if stat.session == pid else "process group"
            return f"the {what} of process {stat.pid} ({stat.comm})"
    return "a process that has just ended"


def _holder(pid: int) -> str:
    stat, status = read_stat(pid), read_status(pid)
    if status.tgid != pid:
        return f"a thread of process {status.tgid} ({read_stat(status.tgid).comm})"
    if stat.state == "Z":
        return f"process {pid} ({stat.comm}), which has ended but was not waited for by its parent, process {stat.ppid}"
    return f"process {pid} ({stat.comm})"


def _processes() -> Iterator[Stat]:
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with suppress(OSError):
                yield read_stat(int(name))
