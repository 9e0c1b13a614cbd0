# SPDX-License-Identifier: Apache-2.0
"""Attempts at what a checkpoint or a restore needs of the kernel, each on ourselves or on a child of ours.

Each returns what it found, in a few words, and raises OSError, an IcecoreError or Lacking if that is not enough.
"""

import mmap
import os
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np

from icecore.daemon.tracker.soft_dirty_probe import keeps_marks_when_merging, scans_soft_dirty, soft_dirty_lacks
from icecore.inject import freeze, steal_userfaultfd
from icecore.kernel import pagemap, process_vm, ptrace, userfaultfd
from icecore.kernel.clear_refs import clear_soft_dirty
from icecore.kernel.clone3 import clone3_fork
from icecore.kernel.pagemap import PM_SOFT_DIRTY, Pagemap
from icecore.kernel.procfs import read_maps, read_status
from icecore.storage.records import PAGE_SIZE

MADV_GUARD_INSTALL = 102
CAP_SYS_ADMIN, CAP_CHECKPOINT_RESTORE = 21, 40
SET_TID_TRIES = 5
FEATURES = {
    "WP_ASYNC": userfaultfd.UFFD_FEATURE_WP_ASYNC,
    "WP_UNPOPULATED": userfaultfd.UFFD_FEATURE_WP_UNPOPULATED,
    "WP_HUGETLBFS_SHMEM": userfaultfd.UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
}


class Lacking(Exception):
    """The attempt did not fail, but did not do what it should either."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise Lacking(message)


@contextmanager
def _child() -> Generator[int]:
    """The pid of a process of ours that waits for input."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        try:
            # Popen returns while the kernel is still busy with the exec: wait for a sign of life.
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"?")
            process.stdout.read(1)
            yield process.pid
        finally:
            process.kill()


@contextmanager
def _memory(pages: int = 1) -> Generator[tuple[mmap.mmap, int]]:
    """Fresh private memory and its address."""
    with mmap.mmap(-1, pages * PAGE_SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        yield memory, np.frombuffer(memory, np.uint8).ctypes.data


def probe_ptrace() -> str:
    """Seize a child, stop it, let it go."""
    with _child() as pid, freeze(pid) as frozen:
        return f"stopped a child with {len(frozen.threads)} thread"


def probe_injection() -> str:
    """Make a userfaultfd inside a child and take it."""
    with _child() as pid, freeze(pid) as frozen:
        os.close(steal_userfaultfd(frozen))
    return "a child was made to open a userfaultfd, which was taken out of it"


def probe_suspend_seccomp() -> str:
    """Ask for a child's seccomp filter, had it one, to be suspended."""
    with _child() as pid, freeze(pid):
        ptrace.set_options(pid, ptrace.PTRACE_O_TRACESYSGOOD | ptrace.PTRACE_O_SUSPEND_SECCOMP)
    return "PTRACE_O_SUSPEND_SECCOMP accepted"


def probe_process_vm() -> str:
    """Read a page of a child."""
    with _child() as pid:
        vma = next(vma for vma in read_maps(pid) if vma.path == "[stack]")
        starts, lengths = np.array([vma.end - PAGE_SIZE], np.uint64), np.array([PAGE_SIZE], np.uint64)
        got = process_vm.readv(pid, bytearray(PAGE_SIZE), starts, lengths)
    _require(got == PAGE_SIZE, "a readable page could not be read")
    return "read the stack of a child"


def probe_map_files() -> str:
    """Open the object behind a shared mapping of a child."""
    with mmap.mmap(-1, PAGE_SIZE) as shared:
        start = np.frombuffer(shared, np.uint8).ctypes.data
        vma = next(vma for vma in read_maps(os.getpid()) if vma.start <= start < vma.end)
        os.close(os.open(f"/proc/self/map_files/{vma.start:x}-{vma.end:x}", os.O_RDONLY | os.O_CLOEXEC))
    return "opened the object behind a shared mapping"


def probe_set_tid() -> str:
    """Give a child a pid of our choice: that of one that has just ended."""
    for _ in range(SET_TID_TRIES):
        with _child() as wanted:
            pass
        try:
            pid = clone3_fork(wanted)
        except FileExistsError:
            continue  # somebody else was given that pid
        if pid == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
        return "made a child with a pid of our choice"
    raise Lacking("the pid was taken each time")


def probe_capability() -> str:
    """Look at our effective capabilities."""
    effective = read_status(os.getpid()).cap_eff
    names = {"CAP_CHECKPOINT_RESTORE": CAP_CHECKPOINT_RESTORE, "CAP_SYS_ADMIN": CAP_SYS_ADMIN}
    held = [name for name, bit in names.items() if effective >> bit & 1]
    _require(bool(held), "neither CAP_CHECKPOINT_RESTORE nor CAP_SYS_ADMIN")
    return " and ".join(held)


def probe_pagemap_scan() -> str:
    """Scan a page of ours for each category."""
    _require(pagemap.available(), "no PAGEMAP_SCAN (Linux 6.7)")
    known = pagemap.supported_categories()
    return "knows " + " ".join(name for name, bit in pagemap.CATEGORIES.items() if known & bit)


def probe_guard_category() -> str:
    """Whether scans tell guard pages from swap."""
    _require(bool(pagemap.supported_categories() & pagemap.PAGE_IS_GUARD), "no PAGE_IS_GUARD (Linux 6.16)")
    return "PAGE_IS_GUARD"


def probe_guard() -> str:
    """Make a guard page."""
    with _memory() as (memory, _):
        memory.madvise(MADV_GUARD_INSTALL)
    return "MADV_GUARD_INSTALL"


def probe_userfaultfd() -> str:
    """Make a userfaultfd of our own and ask for its features."""
    features = userfaultfd.probe()
    return "features " + (" ".join(name for name, bit in FEATURES.items() if features & bit) or f"{features:#x}")


def probe_write_protect() -> str:
    """A whole round on a page of ours: register, protect, find it unwritten, write, find it written."""
    scan = {"mask": pagemap.PAGE_IS_WRITTEN, "returned": pagemap.PAGE_IS_WRITTEN}
    flags = pagemap.PM_SCAN_WP_MATCHING | pagemap.PM_SCAN_CHECK_WPASYNC
    fd = userfaultfd.create(os.O_CLOEXEC | os.O_NONBLOCK | userfaultfd.UFFD_USER_MODE_ONLY)
    try:
        userfaultfd.api(fd, userfaultfd.UFFD_FEATURE_WP_ASYNC)
        with _memory() as (memory, start), Pagemap(os.getpid()) as own:
            memory[0] = 1
            userfaultfd.register(fd, start, PAGE_SIZE, userfaultfd.UFFDIO_REGISTER_MODE_WP)
            seen = [len(own.scan(start, start + PAGE_SIZE, flags=flags, **scan)) for _ in range(2)]
            memory[0] = 2
            seen += [len(own.scan(start, start + PAGE_SIZE, flags=flags, **scan))]
    finally:
        os.close(fd)
    _require(seen == [1, 0, 1], f"a written page was reported {seen} times, expected [1, 0, 1]")
    return "a write was seen, once"


def probe_soft_dirty() -> str:
    """Clear the marks of a child, find its stack clean, write there, find it marked; and how marks are found here."""
    _require(not soft_dirty_lacks(), soft_dirty_lacks())
    with _child() as pid, Pagemap(pid) as pagemap, open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        top = next(vma for vma in read_maps(pid) if vma.path == "[stack]").end - PAGE_SIZE
        clear_soft_dirty(pid)
        seen = [_is_marked(pagemap, top)]
        memory.seek(top)
        byte = memory.read(1)
        memory.seek(top)
        memory.write(byte)
        seen += [_is_marked(pagemap, top)]
    _require(seen == [False, True], f"a page was marked {seen} before and after a write, expected [False, True]")
    how = "PAGEMAP_SCAN" if scans_soft_dirty() else "bit 55 of pagemap"
    loses = (
        "" if keeps_marks_when_merging() else "; merging mappings loses marks, so neighbours are compared by content"
    )
    return f"a write was seen, once; found by {how}{loses}"


def _is_marked(pagemap: Pagemap, address: int) -> bool:
    return bool(int(pagemap.entries(address, address + PAGE_SIZE)[0]) & PM_SOFT_DIRTY)
