# SPDX-License-Identifier: Apache-2.0
"""Whether an open file or directory can be opened again by its path, as it was."""

import os

from icecore.daemon.check.fds import O_ASYNC, Fd
from icecore.daemon.check.mounts import KERNEL_FILE_SYSTEMS, file_system
from icecore.daemon.check.reason import Reason

DELETED = " (deleted)"


def refuse_file(fd: Fd) -> Reason | None:
    """For a regular file or directory: the first thing in the way of opening it again."""
    thing = f"fd {fd.number}"
    kind = file_system(fd.mount_id)
    if kind in KERNEL_FILE_SYSTEMS:
        return Reason("kernel-file", thing, f"{fd.link}, a file of the kernel ({kind})")
    if fd.link.endswith(DELETED) or fd.stat.st_nlink == 0:
        return Reason("deleted-file", thing, f"deleted file {fd.link.removesuffix(DELETED)}")
    if not kind:
        return Reason("unknown-file", thing, f"{fd.link}, on no mounted file system")
    if not leads_to(fd.link, fd.stat):
        return Reason("moved-file", thing, f"{fd.link} no longer leads to this file: it was replaced or hidden")
    return None


def leads_to(path: str, expected: os.stat_result) -> bool:
    """Whether the path, from our own root, is that very file (symbolic links of the path itself not followed)."""
    try:
        now = os.lstat(path)
    except OSError:
        return False
    return (now.st_ino, now.st_dev) == (expected.st_ino, expected.st_dev)


def refuse_lock(fd: Fd) -> Reason | None:
    """All kinds of locks and leases show as lines like ``lock: 1: POSIX  ADVISORY  WRITE 42 fe:00:12 0 EOF``."""
    held = [line.split() for line in fd.lines if line.startswith("lock:")]
    if not held:
        return None
    kinds = " and ".join(sorted({words[2] for words in held if len(words) > 2}))
    return Reason("file-lock", f"fd {fd.number}", f"{kinds} lock on {fd.link}")


def refuse_async(fd: Fd) -> Reason | None:
    """O_ASYNC: the owner and signal of fcntl(F_SETOWN, F_SETSIG) are not kept."""
    if not fd.flags & O_ASYNC:
        return None
    return Reason("async-io", f"fd {fd.number}", f"{fd.link} sends signals when it is ready (O_ASYNC)")
