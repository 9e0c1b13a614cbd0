# SPDX-License-Identifier: Apache-2.0
"""clone3(2): struct clone_args, CLONE_* (linux/sched.h) and a fork that chooses its pid."""

import ctypes
import signal
import struct

from icecore.kernel.arch.x86_64 import SYS_clone3
from icecore.kernel.libc import syscall_keeping_gil

CLONE_VM = 0x100
CLONE_FS = 0x200
CLONE_FILES = 0x400
CLONE_SIGHAND = 0x800
CLONE_PIDFD = 0x1000
CLONE_PTRACE = 0x2000
CLONE_VFORK = 0x4000
CLONE_PARENT = 0x8000
CLONE_THREAD = 0x10000
CLONE_NEWNS = 0x20000
CLONE_SYSVSEM = 0x40000
CLONE_SETTLS = 0x80000
CLONE_PARENT_SETTID = 0x100000
CLONE_CHILD_CLEARTID = 0x200000
CLONE_CHILD_SETTID = 0x1000000
CLONE_NEWPID = 0x20000000
CLONE_CLEAR_SIGHAND = 1 << 32
CLONE_INTO_CGROUP = 1 << 33
CLONE_THREAD_FLAGS = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM
"""What pthread_create shares."""

_CLONE_ARGS = struct.Struct("=11Q")
CLONE_ARGS_SIZE = _CLONE_ARGS.size


def clone_args(
    *,
    flags: int = 0,
    pidfd: int = 0,
    child_tid: int = 0,
    parent_tid: int = 0,
    exit_signal: int = 0,
    stack: int = 0,
    stack_size: int = 0,
    tls: int = 0,
    set_tid: int = 0,
    set_tid_size: int = 0,
    cgroup: int = 0,
) -> bytes:
    """struct clone_args (88 bytes). ``set_tid`` is the address of ``set_tid_size`` pid_t, innermost namespace first."""
    return _CLONE_ARGS.pack(
        flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup
    )


def clone3_fork(set_tid: int | None = None, *, flags: int = 0, exit_signal: int = signal.SIGCHLD) -> int:
    """fork(2), the child having pid ``set_tid`` if given; returns 0 in the child.

    EEXIST: the pid is taken; EPERM: no CAP_CHECKPOINT_RESTORE (or CAP_SYS_ADMIN) in the pid namespace's owner; EINVAL:
    beyond pid_max. The C library does not notice: no atfork handlers run, and its locks stay as they were, so the
    child may do little more than exec or ``os._exit``.
    """
    wanted = (ctypes.c_int * 1)(set_tid or 0)
    address = ctypes.addressof(wanted) if set_tid is not None else 0
    arguments = clone_args(flags=flags, exit_signal=exit_signal, set_tid=address, set_tid_size=int(bool(address)))
    what = f"clone3 with pid {set_tid}" if set_tid is not None else "clone3"
    return syscall_keeping_gil(SYS_clone3, arguments, len(arguments), what=what)
