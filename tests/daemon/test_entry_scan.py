# SPDX-License-Identifier: Apache-2.0
"""The entries of pagemap tell what PAGEMAP_SCAN tells: compared on memory of our own, on whatever kernel has both."""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.hands import MADV_GUARD_INSTALL
from support.memory import PAGE

from icecore.daemon.tracker.entry_scan import EntryScan, zero_page
from icecore.kernel import pagemap as abi
from icecore.kernel.pagemap import Pagemap, supported_categories

KINDS = abi.PAGE_IS_PRESENT | abi.PAGE_IS_SWAPPED | abi.PAGE_IS_FILE | abi.PAGE_IS_PFNZERO
HUGE = 2 << 20


@pytest.fixture
def pagemap() -> Iterator[Pagemap]:
    with Pagemap(os.getpid()) as made:
        yield made


def kinds(pagemap: Pagemap | EntryScan, start: int, pages: int, **how: int) -> list[int]:
    """The categories of each page; -1: not returned."""
    found = np.full(pages, -1)
    regions = pagemap.scan_spans([(start, start + pages * PAGE)], returned=KINDS, **how)
    for region in regions:
        found[(int(region["start"]) - start) // PAGE : (int(region["end"]) - start) // PAGE] = region["categories"]
    listed: list[int] = (found & ~abi.PAGE_IS_GUARD | np.where(found < 0, -1, 0)).tolist()
    return listed


def test_classes_of_anonymous_memory(pagemap: Pagemap) -> None:
    with mmap.mmap(-1, 16 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        start = np.frombuffer(memory, np.uint8).ctypes.data
        memory[0] = memory[PAGE] = memory[5 * PAGE] = 1
        assert memory[3 * PAGE] == 0
        zero = abi.PAGE_IS_PRESENT | (abi.PAGE_IS_PFNZERO if zero_page() else 0)
        expected = [-1] * 16
        expected[0] = expected[1] = expected[5] = abi.PAGE_IS_PRESENT
        expected[3] = zero
        assert kinds(EntryScan(pagemap), start, 16, anyof=abi.PAGE_IS_PRESENT) == expected
        if supported_categories():
            assert kinds(pagemap, start, 16, anyof=abi.PAGE_IS_PRESENT)[3] == abi.PAGE_IS_PRESENT | abi.PAGE_IS_PFNZERO


def test_a_private_file_mapping(pagemap: Pagemap, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 16 * 8)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 8 * PAGE, mmap.MAP_PRIVATE) as memory:
        start = np.frombuffer(memory, np.uint8).ctypes.data
        memory[2 * PAGE] = 1
        assert memory[4 * PAGE] == 0
        found = kinds(EntryScan(pagemap), start, 8, anyof=abi.PAGE_IS_PRESENT)
        assert found[2] == abi.PAGE_IS_PRESENT
        assert found[4] == abi.PAGE_IS_PRESENT | abi.PAGE_IS_FILE
        copies = kinds(
            EntryScan(pagemap), start, 8, inverted=abi.PAGE_IS_FILE, mask=abi.PAGE_IS_FILE, anyof=abi.PAGE_IS_PRESENT
        )
        assert [page for page in range(8) if copies[page] >= 0] == [2]


@pytest.mark.skipif(not supported_categories(), reason="this kernel has no PAGEMAP_SCAN to compare with")
def test_the_same_as_the_ioctl_over_all_of_our_memory(pagemap: Pagemap) -> None:
    with mmap.mmap(-1, 4 * HUGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        start = np.frombuffer(memory, np.uint8).ctypes.data
        memory.madvise(mmap.MADV_HUGEPAGE)
        memory[HUGE] = 1
        with_guard = supported_categories() & abi.PAGE_IS_GUARD
        if with_guard:
            memory.madvise(MADV_GUARD_INSTALL, 3 * HUGE, 4 * PAGE)
        wanted = abi.PAGE_IS_PRESENT | abi.PAGE_IS_SWAPPED
        same = [kinds(scan, start, 4 * HUGE // PAGE, anyof=wanted) for scan in (pagemap, EntryScan(pagemap, 7 * PAGE))]
        assert same[0] == same[1]
        assert any(kind >= 0 for kind in same[0])
