# SPDX-License-Identifier: Apache-2.0
"""kcmp(2): whether two tasks share a kernel object (linux/kcmp.h)."""

import ctypes

from icecore.kernel.arch.x86_64 import SYS_kcmp
from icecore.kernel.libc import syscall_keeping_gil

KCMP_FILE = 0
KCMP_VM = 1
KCMP_FILES = 2
KCMP_FS = 3
KCMP_SIGHAND = 4
KCMP_IO = 5
KCMP_SYSVSEM = 6
KCMP_EPOLL_TFD = 7


def kcmp(pid1: int, pid2: int, kind: int, index1: int = 0, index2: int = 0) -> int:
    """0: the same object; 1 less, 2 greater (an order to sort by); 3: different and not ordered.

    For KCMP_FILE the indexes are fd numbers. Raises ESRCH, EPERM, EBADF.
    """
    return syscall_keeping_gil(SYS_kcmp, pid1, pid2, kind, index1, index2, what=f"kcmp of {pid1} and {pid2}")


class _EpollSlot(ctypes.Structure):
    """struct kcmp_epoll_slot."""

    _fields_ = (("efd", ctypes.c_uint32), ("tfd", ctypes.c_uint32), ("toff", ctypes.c_uint32))


def kcmp_epoll_target(pid: int, epoll: int, fd: int) -> int:
    """Whether the file that the process's ``epoll`` watches as ``fd`` is the one that ``fd`` now names: 0 if so.

    Raises EBADF when ``fd`` is closed, ENOENT when the set has no such target.
    """
    slot = _EpollSlot(epoll, fd, 0)
    return kcmp(pid, pid, KCMP_EPOLL_TFD, fd, ctypes.addressof(slot))
