# SPDX-License-Identifier: Apache-2.0
"""pidfd_open(2), pidfd_getfd(2), pidfd_send_signal(2): a process by descriptor. Waiting on one is poll(2)'s affair."""

import os
import signal

from icecore.kernel.arch.x86_64 import SYS_pidfd_getfd
from icecore.kernel.libc import syscall

PIDFD_NONBLOCK = os.O_NONBLOCK


def pidfd_open(pid: int, flags: int = 0) -> int:
    """A close-on-exec descriptor that becomes readable when the process ends. ESRCH: none; EINVAL: not a leader."""
    return os.pidfd_open(pid, flags)


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """A duplicate (close-on-exec) of the process's descriptor. EPERM unless we may ptrace it; EBADF: no such one."""
    return syscall(SYS_pidfd_getfd, pidfd, fd, 0, what=f"pidfd_getfd of fd {fd}")


def pidfd_send_signal(pidfd: int, sig: int) -> None:
    """Send a signal to just that process; ESRCH if it has ended."""
    signal.pidfd_send_signal(pidfd, sig)
