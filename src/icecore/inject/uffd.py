# SPDX-License-Identifier: Apache-2.0
"""A userfaultfd of the target's address space in our hands: made inside the target, taken, closed there."""

import os

from icecore.errors import KernelLacks, NotPermitted
from icecore.inject import code
from icecore.inject.freeze import Frozen
from icecore.kernel.arch.x86_64 import SYS_userfaultfd
from icecore.kernel.pidfd import pidfd_getfd, pidfd_open

UFFD_USER_MODE_ONLY = 1


def steal_userfaultfd(frozen: Frozen) -> int:
    """A userfaultfd bound to the target's memory; the target keeps nothing.

    The injected code closes its fd right after making it, whether or not we are still there. All threads must be
    stopped (they are: ``frozen``), or one might fork while the fd exists.
    """
    tracee = frozen.leader
    flags = os.O_CLOEXEC | os.O_NONBLOCK | UFFD_USER_MODE_ONLY
    entry = code.SystemCall(SYS_userfaultfd, (flags,))
    with frozen.trampoline.visit(tracee, entry, code.open_close_program):
        tracee.run_syscall()
        theirs = tracee.registers().result
        ours = _take(frozen.pid, theirs) if theirs >= 0 else theirs
        tracee.run_syscall()  # close
    if ours < 0:
        raise KernelLacks(f"process {frozen.pid} may not make a userfaultfd: {os.strerror(-ours)}")
    return ours


def _take(pid: int, fd: int) -> int:
    pidfd = pidfd_open(pid)
    try:
        return pidfd_getfd(pidfd, fd)
    except PermissionError:
        raise NotPermitted(
            f"the kernel does not let us take an fd of process {pid}", "run as its owner or as root"
        ) from None
    finally:
        os.close(pidfd)
