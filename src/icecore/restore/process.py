# SPDX-License-Identifier: Apache-2.0
"""What belongs to the process as a whole: session, mm fields, program, directory, mask, personality, limits, timers."""

import os
import resource
import struct

from icecore.errors import CannotRestore
from icecore.kernel.arch.x86_64 import (
    SYS_chdir,
    SYS_open,
    SYS_personality,
    SYS_prctl,
    SYS_setitimer,
    SYS_setpgid,
    SYS_setsid,
    SYS_umask,
)
from icecore.kernel.prctl import (
    MM_MAP_SIZE,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_MM,
    PR_SET_MM_MAP,
    PR_SET_THP_DISABLE,
    MmMap,
)
from icecore.restore.calls import Calls
from icecore.restore.fdtable import FdTable
from icecore.restore.stub import Stub
from icecore.storage.records import Limit, Process

_ITIMERVAL = struct.Struct("<4q")
_US = 10**6
_INFINITY = 1 << 63
"""RLIM_INFINITY is all ones; Python has it as -1."""


def set_session(calls: Calls, process: Process, *, own_session: bool) -> None:
    """A leader of a session or of a process group is one again; others join the caller's."""
    if own_session or process.session == process.pid:
        calls.add("make a session", SYS_setsid)
    elif process.process_group == process.pid:
        calls.add("make a process group", SYS_setpgid, 0, 0)


def set_huge_pages(calls: Calls, process: Process) -> None:
    """Whether they are disabled, and how (flags beside the lowest bit: Linux 6.18); before memory is touched."""
    if process.thp_disabled:
        calls.add("disable huge pages", SYS_prctl, PR_SET_THP_DISABLE, 1, process.thp_disabled & ~1, 0, 0)


def set_mm(stub: Stub, calls: Calls, fds: FdTable, process: Process) -> None:
    """brk, arguments, environment, auxv, and /proc/PID/exe, which nothing may map any more but the process's own."""
    mm = process.mm
    fd = fds.new(calls, f"open {process.exe}, the program", SYS_open, os.fsencode(process.exe) + b"\0", os.O_RDONLY, 0)
    fields = MmMap(
        start_code=mm.start_code, end_code=mm.end_code, start_data=mm.start_data, end_data=mm.end_data,
        start_brk=mm.start_brk, brk=mm.brk, start_stack=mm.start_stack, arg_start=mm.arg_start, arg_end=mm.arg_end,
        env_start=mm.env_start, env_end=mm.env_end, auxv=stub.keep(mm.auxv), auxv_size=len(mm.auxv), exe_fd=fd,
    )  # fmt: skip
    calls.add("set the memory map fields", SYS_prctl, PR_SET_MM, PR_SET_MM_MAP, fields.pack(), MM_MAP_SIZE, 0)
    fds.close(calls, fd)


def set_surroundings(calls: Calls, process: Process) -> None:
    """Working directory, umask, personality."""
    cwd = os.fsencode(process.cwd) + b"\0"
    calls.add(f"enter {process.cwd}, the working directory", SYS_chdir, cwd)
    calls.add("set the umask", SYS_umask, process.umask)
    calls.add("set the personality", SYS_personality, process.personality)
    if process.child_subreaper:
        calls.add("become a subreaper", SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def set_timers(calls: Calls, process: Process) -> None:
    """The interval timers go on with the time that was left."""
    for timer in process.timers:
        if timer.value_us:
            setting = _ITIMERVAL.pack(*divmod(timer.interval_us, _US), *divmod(timer.value_us, _US))
            calls.add(f"set interval timer {timer.which}", SYS_setitimer, timer.which, setting, 0)


def set_limits(pid: int, limits: tuple[Limit, ...]) -> None:
    """From outside, where they differ; raising a hard limit needs CAP_SYS_RESOURCE."""
    for limit in limits:
        wanted = (_python(limit.soft), _python(limit.hard))
        if resource.prlimit(pid, limit.resource) != wanted:
            try:
                resource.prlimit(pid, limit.resource, wanted)
            except (PermissionError, ValueError):
                raise CannotRestore(
                    f"cannot set resource limit {limit.resource} to {wanted[0]} (hard {wanted[1]}): not permitted",
                    "restore as root, or from a shell with limits at least as high (ulimit -H)",
                ) from None


def _python(value: int) -> int:
    return resource.RLIM_INFINITY if value >= _INFINITY else value
