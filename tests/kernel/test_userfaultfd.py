# SPDX-License-Identifier: Apache-2.0
"""Asynchronous write protection of memory of our own: the whole round of register, arm, write, collect."""

import errno
import os
from collections.abc import Iterator

import pytest
from support.fixture_types import PAGE, Memory

from icecore.kernel import userfaultfd as uffd
from icecore.kernel.pagemap import (
    PAGE_IS_PRESENT,
    PAGE_IS_SWAPPED,
    PAGE_IS_WRITTEN,
    PM_SCAN_CHECK_WPASYNC,
    PM_SCAN_WP_MATCHING,
    Pagemap,
    available,
)

PRESENT = PAGE_IS_PRESENT | PAGE_IS_SWAPPED
FLAGS = os.O_CLOEXEC | os.O_NONBLOCK | uffd.UFFD_USER_MODE_ONLY
HAS_WP_ASYNC = bool(uffd.probe() & uffd.UFFD_FEATURE_WP_ASYNC)
needs_wp_async = pytest.mark.skipif(not HAS_WP_ASYNC, reason="no UFFD_FEATURE_WP_ASYNC before Linux 6.7")


@pytest.fixture
def fd() -> Iterator[int]:
    made = uffd.create(FLAGS)
    yield made
    os.close(made)


def collect(pagemap: Pagemap, start: int, pages: int) -> list[int]:
    regions = pagemap.scan(
        start, start + pages * PAGE, flags=PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC, mask=PAGE_IS_WRITTEN,
        anyof=PRESENT, returned=PAGE_IS_WRITTEN,
    )  # fmt: skip
    return [page for r in regions for page in range((int(r["start"]) - start) // PAGE, (int(r["end"]) - start) // PAGE)]


def test_a_kernel_has_wp_async_and_the_scan_or_neither(fd: int) -> None:
    assert available() is HAS_WP_ASYNC
    if not HAS_WP_ASYNC:
        with pytest.raises(OSError, match="Invalid"):
            uffd.api(fd, uffd.UFFD_FEATURE_WP_ASYNC)


@needs_wp_async
def test_written_pages_come_once(fd: int, memory: Memory) -> None:
    mapping, start = memory(8)
    mapping[:] = b"x" * (8 * PAGE)
    uffd.api(fd, uffd.UFFD_FEATURE_WP_ASYNC)
    uffd.register(fd, start, 8 * PAGE, uffd.UFFDIO_REGISTER_MODE_WP)
    with Pagemap(os.getpid()) as pagemap:
        assert collect(pagemap, start, 8) == list(range(8))
        assert collect(pagemap, start, 8) == []
        mapping[3 * PAGE] = 1
        mapping[6 * PAGE] = 1
        assert collect(pagemap, start, 8) == [3, 6]
        assert collect(pagemap, start, 8) == []
        uffd.unregister(fd, start, 8 * PAGE)
        with pytest.raises(PermissionError):
            collect(pagemap, start, 8)


@needs_wp_async
def test_a_second_descriptor_finds_it_busy(fd: int, memory: Memory) -> None:
    _, start = memory(1)
    uffd.api(fd, uffd.UFFD_FEATURE_WP_ASYNC)
    uffd.register(fd, start, PAGE, uffd.UFFDIO_REGISTER_MODE_WP)
    uffd.register(fd, start, PAGE, uffd.UFFDIO_REGISTER_MODE_WP)
    other = uffd.create(FLAGS)
    try:
        uffd.api(other, uffd.UFFD_FEATURE_WP_ASYNC)
        with pytest.raises(OSError, match="busy") as caught:
            uffd.register(other, start, PAGE, uffd.UFFDIO_REGISTER_MODE_WP)
        assert caught.value.errno == errno.EBUSY
    finally:
        os.close(other)


def test_a_feature_that_does_not_exist_is_einval(fd: int) -> None:
    with pytest.raises(OSError, match="Invalid"):
        uffd.api(fd, 1 << 62)
