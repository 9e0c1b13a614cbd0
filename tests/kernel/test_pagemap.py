# SPDX-License-Identifier: Apache-2.0
"""PAGEMAP_SCAN on memory of our own and of a child."""

import contextlib
import errno
import mmap
import os
import signal

import numpy as np
import pytest
from support.fixture_types import PAGE, Fork, Memory

from icecore.kernel.pagemap import (
    PAGE_IS_GUARD,
    PAGE_IS_PFNZERO,
    PAGE_IS_PRESENT,
    PAGE_IS_SWAPPED,
    PAGE_IS_WRITTEN,
    PM_PRESENT,
    PM_SCAN_CHECK_WPASYNC,
    Pagemap,
    available,
    supported_categories,
)

PRESENT = PAGE_IS_PRESENT | PAGE_IS_SWAPPED
needs_scan = pytest.mark.skipif(not available(), reason="no PAGEMAP_SCAN before Linux 6.7")


def test_a_kernel_has_all_of_the_scan_or_says_enotty(memory: Memory) -> None:
    if available():
        assert supported_categories() & 0x7F == 0x7F
        return
    assert supported_categories() == 0
    _, start = memory(1)
    with Pagemap(os.getpid()) as pagemap, pytest.raises(OSError, match="ioctl") as caught:
        pagemap.scan(start, start + PAGE, returned=PAGE_IS_PRESENT)
    assert caught.value.errno == errno.ENOTTY


@needs_scan
def test_regions_are_the_touched_pages(memory: Memory) -> None:
    mapping, start = memory(64)
    for page in (0, 1, 2, 10, 63):
        mapping[page * PAGE] = 1
    with Pagemap(os.getpid()) as pagemap:
        regions = pagemap.scan(start, start + 64 * PAGE, returned=PAGE_IS_PRESENT, anyof=PRESENT)
    pages = [((int(r["start"]) - start) // PAGE, (int(r["end"]) - start) // PAGE) for r in regions]
    assert pages == [(0, 3), (10, 11), (63, 64)]
    assert (regions["categories"] == PAGE_IS_PRESENT).all()


@needs_scan
def test_zero_pages_are_told_from_data(memory: Memory) -> None:
    mapping, start = memory(4)
    assert mapping[PAGE] == 0
    mapping[2 * PAGE] = 1
    with Pagemap(os.getpid()) as pagemap:
        regions = pagemap.scan(start, start + 4 * PAGE, returned=PAGE_IS_PFNZERO, anyof=PRESENT)
    assert regions["categories"].tolist() == [PAGE_IS_PFNZERO, 0]


@needs_scan
@pytest.mark.parametrize("count", [511, 512, 513, 1024, 16383, 16384, 16385, 32768, 40000])
def test_more_regions_than_one_call_returns(memory: Memory, count: int) -> None:
    mapping, start = memory(2 * count)
    np.frombuffer(mapping, np.uint8)[:: 2 * PAGE] = 1
    with Pagemap(os.getpid()) as pagemap:
        regions = pagemap.scan(start, start + 2 * count * PAGE, returned=PAGE_IS_PRESENT, anyof=PRESENT)
    assert (regions["start"] == start + np.arange(count, dtype=np.uint64) * (2 * PAGE)).all()
    assert (regions["end"] - regions["start"] == PAGE).all()


@needs_scan
def test_inverted_mask_selects_what_is_absent(memory: Memory) -> None:
    mapping, start = memory(4)
    mapping[0], _ = 1, mapping[PAGE]
    with Pagemap(os.getpid()) as pagemap:
        regions = pagemap.scan(
            start, start + 4 * PAGE, returned=PAGE_IS_PRESENT, inverted=PAGE_IS_PFNZERO,
            mask=PAGE_IS_PFNZERO | PAGE_IS_PRESENT,
        )  # fmt: skip
    assert regions["start"].tolist() == [start]


@needs_scan
def test_unregistered_memory_is_refused_when_asked(memory: Memory) -> None:
    _, start = memory(4)
    with Pagemap(os.getpid()) as pagemap, pytest.raises(PermissionError):
        pagemap.scan(start, start + PAGE, returned=PAGE_IS_WRITTEN, flags=PM_SCAN_CHECK_WPASYNC, mask=PAGE_IS_WRITTEN)


@needs_scan
def test_unknown_category_is_einval(memory: Memory) -> None:
    _, start = memory(1)
    with Pagemap(os.getpid()) as pagemap, pytest.raises(OSError, match="Invalid") as caught:
        pagemap.scan(start, start + PAGE, returned=1 << 40)
    assert caught.value.errno == errno.EINVAL


def test_a_dead_process_has_no_address_space(sleeper: Fork) -> None:
    pid = sleeper()
    with Pagemap(pid) as pagemap:
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert not pagemap.has_address_space()
        if available():  # an error since Linux 6.12.117 ("pin mm_users in do_pagemap_scan()"); before, just nothing
            with contextlib.suppress(ProcessLookupError):
                assert len(pagemap.scan(0, 1 << 46, returned=PAGE_IS_PRESENT, anyof=PRESENT)) == 0


def test_entries_agree_with_the_scan(memory: Memory) -> None:
    mapping, start = memory(8)
    mapping[3 * PAGE] = 1
    with Pagemap(os.getpid()) as pagemap:
        entries = pagemap.entries(start, start + 8 * PAGE)
    assert np.flatnonzero(entries & np.uint64(PM_PRESENT)).tolist() == [3]


@pytest.mark.skipif(not supported_categories() & PAGE_IS_GUARD, reason="no PAGE_IS_GUARD before Linux 6.16")
def test_guard_pages_are_named(memory: Memory) -> None:
    mapping, start = memory(4)
    madv_guard_install = 102
    mapping.madvise(madv_guard_install, PAGE, PAGE)
    with Pagemap(os.getpid()) as pagemap:
        regions = pagemap.scan(start, start + 4 * PAGE, returned=PAGE_IS_GUARD, anyof=PRESENT)
    assert regions.tolist() == [(start + PAGE, start + 2 * PAGE, PAGE_IS_GUARD)]


def test_the_constants_of_mmap_are_page_sized() -> None:
    assert mmap.PAGESIZE == PAGE
