# SPDX-License-Identifier: Apache-2.0
"""/proc/PID/clear_refs: resetting what the kernel knows of accesses to pages."""

import os

CLEAR_SOFT_DIRTY = b"4"


def clear_soft_dirty(pid: int) -> None:
    """Make every page of the whole address space clean, and write-protected until it is written again.

    The kernel holds the lock of the address space meanwhile, so faults and mappings of the process wait: some 10 ms per
    populated GiB. Pages pinned for devices stay dirty. Without CONFIG_MEM_SOFT_DIRTY this succeeds and does nothing.
    EACCES: it belongs to another user; ENOENT, ESRCH: it is gone.
    """
    fd = os.open(f"/proc/{pid}/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, CLEAR_SOFT_DIRTY)
    finally:
        os.close(fd)
