# SPDX-License-Identifier: Apache-2.0
"""The kernel's fast path through large protected memory: what it does not name needs no second look.

A scan that asks for nothing but WRITTEN costs a quarter of any other, since it looks at one bit of each entry.
It cannot tell written pages from holes, so what it names is looked at again; what it passes over is a page, or one in
swap, that still has its mark. PM_SCAN_CHECK_WPASYNC makes sure that the mark means something: a mapping that is not
registered (new, moved, or joined by mremap) answers EPERM, and is looked at as a whole. Zero and guard pages
never get a mark (``Watch``), so that none passes for data.
"""

import errno
import functools
import mmap
import os

import numpy as np

from icecore.daemon.tracker.layout import Layout
from icecore.daemon.tracker.regions import has, merged, runs_of
from icecore.kernel import userfaultfd
from icecore.kernel.pagemap import PAGE_IS_WRITTEN, PM_SCAN_CHECK_WPASYNC, PM_SCAN_WP_MATCHING, Pagemap, Regions
from icecore.kernel.procfs import Span
from icecore.storage.records import PAGE_SIZE
from icecore.storage.runs import EMPTY, Runs, from_pages, join, subtract

LARGE = 1024
"""Pages from which on a second call for the same memory pays."""
NEAR = 512
"""Pages between two suspects that are rather looked at than skipped: a call costs as much."""
MANY = 256
"""Gaps from which on one scan of everything is quicker."""
HUGE_PAGE_SIZE = 2 << 20


def worth_a_quick_scan(layout: Layout, unwatched: Runs) -> Runs:
    """The large part of the anonymous memory. ``unwatched`` are pages whose marks prove nothing."""
    watched = subtract(layout.anonymous, unwatched)
    found: Runs = watched[watched[:, 1] - watched[:, 0] >= LARGE]
    return found if tells_holes() else EMPTY


def rest_to_scan(pagemap: Pagemap, layout: Layout, large: Runs) -> tuple[Span, ...]:
    """The layout's spans without what of ``large`` is proven to be plain: data, and unwritten.

    Raises ESRCH if the address space is gone.
    """
    if not len(large):
        return layout.spans
    plain = subtract(large, _joined(merged([_suspects(pagemap, run) for run in large])))
    if not len(plain) or len(plain) > MANY:
        return layout.spans
    rest: list[list[int]] = (subtract(layout.scope, plain) * np.uint64(PAGE_SIZE)).tolist()
    return tuple((start, end) for start, end in rest)


def _suspects(pagemap: Pagemap, run: Runs) -> Runs:
    """Of one run of pages, those that are not proven to be plain."""
    start, end = (run * np.uint64(PAGE_SIZE)).tolist()
    try:
        regions = _scan(pagemap, start, end, PM_SCAN_CHECK_WPASYNC)
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
        return run.reshape(1, 2)
    return runs_of(regions, has(regions, PAGE_IS_WRITTEN))


def _scan(pagemap: Pagemap, start: int, end: int, flags: int) -> Regions:
    """``returned`` and ``mask`` being just this is what selects the fast path."""
    return pagemap.scan(start, end, flags=flags, mask=PAGE_IS_WRITTEN, returned=PAGE_IS_WRITTEN)


def _joined(runs: Runs) -> Runs:
    """Those that are near one another made one."""
    starts, ends = runs[:, 0], runs[:, 1].copy()
    near = np.flatnonzero(starts[1:] - ends[:-1] <= NEAR)
    ends[near] = starts[near + 1]
    return join(starts, ends)


@functools.cache
def tells_holes() -> bool:
    """Whether the fast path names holes, with and without page tables, found on memory of our own: kernels before
    6.12.103 and 6.18.44 pass over those without."""
    flags = os.O_CLOEXEC | os.O_NONBLOCK | userfaultfd.UFFD_USER_MODE_ONLY
    try:
        fd = userfaultfd.create(flags)
    except OSError:
        return False
    try:
        userfaultfd.api(fd, userfaultfd.UFFD_FEATURE_WP_ASYNC)
        return _names_all_but_marked(fd)
    except OSError:
        return False
    finally:
        os.close(fd)


def _names_all_but_marked(fd: int) -> bool:
    """Three page tables' worth of memory with one page in it, which is marked."""
    size = 3 * HUGE_PAGE_SIZE
    with mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as room, Pagemap(os.getpid()) as pagemap:
        room.madvise(mmap.MADV_NOHUGEPAGE)
        start = np.frombuffer(room, np.uint8).ctypes.data
        inside = start + -start % HUGE_PAGE_SIZE + PAGE_SIZE
        room[inside - start] = 1
        userfaultfd.register(fd, start, size, userfaultfd.UFFDIO_REGISTER_MODE_WP)
        _scan(pagemap, inside, inside + PAGE_SIZE, PM_SCAN_WP_MATCHING)
        regions = _scan(pagemap, start, start + size, PM_SCAN_CHECK_WPASYNC)
    everything = np.array([(start // PAGE_SIZE, (start + size) // PAGE_SIZE)], np.uint64)
    marked = subtract(everything, runs_of(regions, has(regions, PAGE_IS_WRITTEN)))
    return np.array_equal(marked, from_pages(np.array([inside // PAGE_SIZE], np.uint64)))
