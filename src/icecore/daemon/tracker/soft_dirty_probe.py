# SPDX-License-Identifier: Apache-2.0
"""Whether this kernel marks written pages, and which of the ways of losing a mark it has, tried on our own memory."""

import functools
import mmap
import os
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np

from icecore.daemon.tracker.entry_scan import EntryScan
from icecore.kernel import process_vm
from icecore.kernel.arch.x86_64 import SYS_mmap, SYS_mprotect, SYS_munmap
from icecore.kernel.clear_refs import clear_soft_dirty
from icecore.kernel.libc import syscall
from icecore.kernel.mman import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
)
from icecore.kernel.pagemap import (
    PAGE_IS_HUGE,
    PAGE_IS_PFNZERO,
    PAGE_IS_SOFT_DIRTY,
    PM_SOFT_DIRTY,
    Pagemap,
    supported_categories,
)
from icecore.storage.records import PAGE_SIZE

HUGE_PAGE_SIZE = 2 << 20
PRIVATE = MAP_PRIVATE | MAP_ANONYMOUS
RW = PROT_READ | PROT_WRITE


@functools.cache
def soft_dirty_lacks() -> str:
    """What this kernel lacks for the soft-dirty tracker; empty if nothing. Clearing would succeed in any case."""
    with mmap.mmap(-1, PAGE_SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory, Pagemap(os.getpid()) as own:
        memory[0] = 1
        start = np.frombuffer(memory, np.uint8).ctypes.data
        seen = int(own.entries(start, start + PAGE_SIZE)[0]) & PM_SOFT_DIRTY
    return "" if seen else "the kernel does not mark written pages (CONFIG_MEM_SOFT_DIRTY)"


@functools.cache
def scans_soft_dirty() -> bool:
    """Whether PAGEMAP_SCAN can be used: it knows the category (Linux 6.8), and the huge zero page (6.12.36)."""
    return bool(supported_categories() & PAGE_IS_SOFT_DIRTY) and _knows_the_huge_zero_page()


def scanner(pagemap: Pagemap) -> Pagemap | EntryScan:
    """The quickest way to find marked pages on this kernel."""
    return pagemap if scans_soft_dirty() else EntryScan(pagemap)


def _knows_the_huge_zero_page() -> bool:
    """True also where no huge page is to be had."""
    with mmap.mmap(-1, 2 * HUGE_PAGE_SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as room, Pagemap(os.getpid()) as own:
        room.madvise(mmap.MADV_HUGEPAGE)
        start = np.frombuffer(room, np.uint8).ctypes.data
        inside = -start % HUGE_PAGE_SIZE
        assert not room[inside]
        regions = own.scan(
            start + inside,
            start + inside + PAGE_SIZE,
            returned=PAGE_IS_HUGE | PAGE_IS_PFNZERO,
            anyof=PAGE_IS_HUGE | PAGE_IS_PFNZERO,
        )
    return all(int(region["categories"]) & PAGE_IS_PFNZERO for region in regions)


@functools.cache
def keeps_marks_when_merging() -> bool:
    """Whether a mapping that is marked as a whole stays so when another is merged with it (Linux 6.18.37).

    Pages 0-15 are read-only, 16-31 writable. New memory at page 32 merges with the latter and marks them all; they are
    made writable anew, so that the store at page 20 leaves no mark of its own; then 0-15 become writable and merge.
    This clears the marks of our own process.
    """
    with _room(64) as start, Pagemap(os.getpid()) as own:
        written = start + 20 * PAGE_SIZE
        _map(start, 32, RW)
        _write(start, 32)
        _protect(start, 16, PROT_READ)
        clear_soft_dirty(os.getpid())
        _map(start + 32 * PAGE_SIZE, 1, RW)
        _protect(start + 16 * PAGE_SIZE, 16, PROT_NONE)
        _protect(start + 16 * PAGE_SIZE, 16, RW)
        _write(written, 1)
        _protect(start, 16, RW)
        return bool(int(own.entries(written, written + PAGE_SIZE)[0]) & PM_SOFT_DIRTY)


@contextmanager
def _room(pages: int) -> Generator[int]:
    """The address of memory that nothing else touches."""
    start = syscall(SYS_mmap, 0, pages * PAGE_SIZE, PROT_NONE, PRIVATE, -1, 0, what="mmap")
    try:
        yield start
    finally:
        syscall(SYS_munmap, start, pages * PAGE_SIZE, what="munmap")


def _map(address: int, pages: int, protection: int) -> None:
    syscall(SYS_mmap, address, pages * PAGE_SIZE, protection, PRIVATE | MAP_FIXED, -1, 0, what="mmap")


def _protect(address: int, pages: int, protection: int) -> None:
    syscall(SYS_mprotect, address, pages * PAGE_SIZE, protection, what="mprotect")


def _write(address: int, pages: int) -> None:
    """By the kernel, as a store would: through the protection of the page."""
    data = bytes([1]) * (pages * PAGE_SIZE)
    process_vm.writev(os.getpid(), data, np.array([address], np.uint64), np.array([len(data)], np.uint64))
