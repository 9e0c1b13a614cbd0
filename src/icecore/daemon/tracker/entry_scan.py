# SPDX-License-Identifier: Apache-2.0
"""PAGEMAP_SCAN for kernels without it (before 6.7), or without a category of it: from the entries of pagemap.

Forty times slower, and read in blocks; so the spans must be mapped, not the whole of a 64-bit address space. The
entries do not name the zero page. Where frame numbers are shown (CAP_SYS_ADMIN) the small one is known by its own;
whatever else might be one, small or huge, is called soft-dirty: its content decides.
"""

import functools
import mmap
import os
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from icecore.kernel.pagemap import (
    PAGE_IS_FILE,
    PAGE_IS_GUARD,
    PAGE_IS_PFNZERO,
    PAGE_IS_PRESENT,
    PAGE_IS_SOFT_DIRTY,
    PAGE_IS_SWAPPED,
    PM_FILE,
    PM_GUARD_REGION,
    PM_MMAP_EXCLUSIVE,
    PM_PRESENT,
    PM_SOFT_DIRTY,
    PM_SWAP,
    REGION,
    Pagemap,
    Regions,
)
from icecore.storage.records import PAGE_SIZE

BLOCK = 1 << 29
"""Bytes of address space at a time: 1 MiB of entries."""
FRAME = np.uint64((1 << 55) - 1)
PAGES_PER_HUGE_PAGE = 512
BITS = (
    (PM_PRESENT, PAGE_IS_PRESENT),
    (PM_SWAP, PAGE_IS_SWAPPED),
    (PM_FILE, PAGE_IS_FILE),
    (PM_SOFT_DIRTY, PAGE_IS_SOFT_DIRTY),
    (PM_GUARD_REGION, PAGE_IS_GUARD),
)
PRIVATE = PM_PRESENT | PM_FILE | PM_MMAP_EXCLUSIVE
NO_MATCH = np.uint64(1 << 63)

Entries = NDArray[np.uint64]


class EntryScan:
    """Answers like ``Pagemap``; guard pages are always told."""

    def __init__(self, pagemap: Pagemap, block: int = BLOCK) -> None:
        self._pagemap = pagemap
        self._block = block

    def scan_spans(
        self, spans: Iterable[tuple[int, int]], *, returned: int, inverted: int = 0, mask: int = 0, anyof: int = 0
    ) -> Regions:
        """See ``Pagemap.scan_spans``."""
        parts: list[Regions] = [np.empty(0, REGION)]
        for first, last in spans:
            for start in range(first, last, self._block):
                entries = self._pagemap.entries(start, min(start + self._block, last))
                found = _categories(entries, start // PAGE_SIZE)
                changed = found ^ np.uint64(inverted)
                matching = (changed & np.uint64(mask)) == mask
                if anyof:
                    matching &= (changed & np.uint64(anyof)) != 0
                parts.append(_regions(np.where(matching, found & np.uint64(returned | PAGE_IS_GUARD), NO_MATCH), start))
        return np.concatenate(parts)


def _categories(entries: Entries, first_page: int) -> NDArray[np.uint64]:
    """What PAGEMAP_SCAN would call each page."""
    found = np.zeros(len(entries), np.uint64)
    for bit, category in BITS:
        found |= ((entries >> np.uint64(bit.bit_length() - 1)) & np.uint64(1)) * np.uint64(category)
    # Anonymous pages of which others have a copy, KSM pages, and zero pages.
    (shared,) = np.nonzero((entries & np.uint64(PRIVATE)) == PM_PRESENT)
    if len(shared):
        frames = entries[shared] & FRAME
        zero = frames == zero_page() if zero_page() else np.zeros(len(shared), np.bool_)
        found[shared[zero]] |= np.uint64(PAGE_IS_PFNZERO)
        pages = shared.astype(np.uint64) + np.uint64(first_page)
        huge = ((frames ^ pages) & np.uint64(PAGES_PER_HUGE_PAGE - 1)) == 0
        found[shared[~zero & (huge | (frames == 0))]] |= np.uint64(PAGE_IS_SOFT_DIRTY)
    return found


def _regions(categories: NDArray[np.uint64], start: int) -> Regions:
    """Runs of equal categories, those that did not match left out."""
    borders = np.flatnonzero(categories[1:] != categories[:-1]) + 1
    starts = np.concatenate(([0], borders))
    ends = np.append(borders, len(categories))
    kept = categories[starts] != NO_MATCH
    regions = np.empty(int(np.count_nonzero(kept)), REGION)
    regions["start"] = starts[kept] * PAGE_SIZE + start
    regions["end"] = ends[kept] * PAGE_SIZE + start
    regions["categories"] = categories[starts[kept]]
    return regions


@functools.cache
def zero_page() -> int:
    """The frame of the zero page, found by reading a page of ours that was never written; 0: we are not shown it."""
    with mmap.mmap(-1, PAGE_SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory, Pagemap(os.getpid()) as own:
        start = np.frombuffer(memory, np.uint8).ctypes.data
        assert not memory[0]
        return int(own.entries(start, start + PAGE_SIZE)[0] & FRAME)
