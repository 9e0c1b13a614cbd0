# SPDX-License-Identifier: Apache-2.0
"""userfaultfd(2): the ioctls of linux/userfaultfd.h that write protection needs.

A descriptor serves the address space of the process that created it, whoever holds it. No missing-page handling and
no events (UFFD_FEATURE_EVENT_* would block the target until somebody reads them).
"""

import fcntl
import os
import struct

from icecore.kernel.arch.x86_64 import SYS_userfaultfd
from icecore.kernel.libc import syscall

UFFD_API = 0xAA
UFFD_USER_MODE_ONLY = 1

UFFDIO_API = 0xC018AA3F
UFFDIO_REGISTER = 0xC020AA00
UFFDIO_UNREGISTER = 0x8010AA01
UFFDIO_WRITEPROTECT = 0xC018AA06

UFFDIO_REGISTER_MODE_MISSING = 1 << 0
UFFDIO_REGISTER_MODE_WP = 1 << 1
UFFDIO_REGISTER_MODE_MINOR = 1 << 2

UFFDIO_WRITEPROTECT_MODE_WP = 1 << 0

UFFD_FEATURE_PAGEFAULT_FLAG_WP = 1 << 0
UFFD_FEATURE_WP_HUGETLBFS_SHMEM = 1 << 12
UFFD_FEATURE_WP_UNPOPULATED = 1 << 13
UFFD_FEATURE_POISON = 1 << 14
UFFD_FEATURE_WP_ASYNC = 1 << 15
UFFD_FEATURE_MOVE = 1 << 16

_API = struct.Struct("=QQQ")
_REGISTER = struct.Struct("=QQQQ")
_RANGE = struct.Struct("=QQ")
_WRITEPROTECT = struct.Struct("=QQQ")


def create(flags: int) -> int:
    """A descriptor for our own address space (O_CLOEXEC, O_NONBLOCK, UFFD_USER_MODE_ONLY)."""
    return syscall(SYS_userfaultfd, flags, what="userfaultfd")


def api(fd: int, features: int) -> tuple[int, int]:
    """UFFDIO_API, possible once per descriptor: ``(features, ioctls)`` that the kernel has.

    Asking for a feature that it lacks raises EINVAL; asking for 0 answers with all of them and enables none.
    """
    argument = bytearray(_API.pack(UFFD_API, features, 0))
    fcntl.ioctl(fd, UFFDIO_API, argument)
    _, answered, ioctls = _API.unpack(argument)
    return answered, ioctls


def register(fd: int, start: int, length: int, mode: int) -> int:
    """UFFDIO_REGISTER of whole pages, bytes; doing it again is harmless. Returns the mask of ioctls for the range.

    EBUSY: another descriptor has (part of) it; EINVAL, EPERM: a mapping that cannot be; ENOMEM: nothing is mapped
    there, or the address space is gone.
    """
    argument = bytearray(_REGISTER.pack(start, length, mode, 0))
    fcntl.ioctl(fd, UFFDIO_REGISTER, argument)
    ioctls: int = _REGISTER.unpack(argument)[3]
    return ioctls


def unregister(fd: int, start: int, length: int) -> None:
    """UFFDIO_UNREGISTER; the write protection of these pages is dropped."""
    fcntl.ioctl(fd, UFFDIO_UNREGISTER, bytearray(_RANGE.pack(start, length)))


def write_protect(fd: int, start: int, length: int) -> None:
    """UFFDIO_WRITEPROTECT of registered pages, also of those that carry the mark already but are writable.

    Holes in the range get a marker each. ENOENT: not registered; EAGAIN: the mappings are just being changed.
    """
    fcntl.ioctl(fd, UFFDIO_WRITEPROTECT, bytearray(_WRITEPROTECT.pack(start, length, UFFDIO_WRITEPROTECT_MODE_WP)))


def write_unprotect(fd: int, start: int, length: int) -> None:
    """UFFDIO_WRITEPROTECT without its MODE_WP: these registered pages count as written. Raises what the other does."""
    fcntl.ioctl(fd, UFFDIO_WRITEPROTECT, bytearray(_WRITEPROTECT.pack(start, length, 0)))


def probe() -> int:
    """All UFFD_FEATURE_* bits of this kernel, from a descriptor of our own. ENOSYS or EPERM: there is no using it."""
    fd = create(os.O_CLOEXEC | os.O_NONBLOCK | UFFD_USER_MODE_ONLY)
    try:
        return api(fd, 0)[0]
    finally:
        os.close(fd)
