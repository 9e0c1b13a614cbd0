# SPDX-License-Identifier: Apache-2.0
"""One look at all pages of a frozen target: which are data, zero, guard, and which are proven unwritten.

A page that a scan returns costs three times what one costs that it passes over. So the one read-only scan of everything
asks for what is not plain: written, absent, zero, unprotected. The rest of each mapping is data that did not change.
Scans that ask for FILE, which is slow, follow in private file mappings only, where a page may be the process's own.
"""

import functools
import mmap
import os
from dataclasses import dataclass

import numpy as np

from icecore.daemon.tracker.entry_scan import EntryScan
from icecore.daemon.tracker.giants import empty_giants
from icecore.daemon.tracker.layout import Layout
from icecore.daemon.tracker.proof import WRITE_PROTECTED, Proof
from icecore.daemon.tracker.regions import (
    POPULATED,
    Mask,
    clip,
    has,
    is_copy,
    is_data,
    merged,
    runs_of,
)
from icecore.daemon.tracker.shared_memory import populated_pages
from icecore.kernel.pagemap import (
    PAGE_IS_FILE,
    PAGE_IS_GUARD,
    PAGE_IS_PFNZERO,
    PAGE_IS_PRESENT,
    Pagemap,
    Regions,
    supported_categories,
)
from icecore.storage.records import PAGE_SIZE
from icecore.storage.runs import EMPTY, Runs, intersect, subtract, union

Scanner = Pagemap | EntryScan
HUGE_PAGE_SIZE = 2 << 20


@dataclass(frozen=True, slots=True)
class FilePages:
    """The pages of private file mappings that are not the file's."""

    looked_at: Runs
    copies: Runs
    written: Runs
    doubtful: Runs
    """Copies that are in swap, or were dropped so that only a marker is left and the file shows again: unknown."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What the page tables and the shared objects say; all runs of data pages but the last two."""

    private: Runs
    written: Runs
    """Those of ``private`` that are not proven unwritten."""
    told: Runs
    """Those of ``written`` of which the kernel says so; the others were not watched."""
    shared: Runs
    file: FilePages
    zero: Runs
    guard: Runs


@dataclass(frozen=True, slots=True)
class Known:
    """What a tracker knows from before."""

    unwatched: Runs
    """Pages whose bits prove nothing."""
    copies: Runs
    """Pages of private file mappings that are the process's own; those written since may be missing."""


NOTHING_KNOWN = Known(EMPTY, EMPTY)


def scanner_for(pagemap: Pagemap, wanted: int = PAGE_IS_PRESENT) -> Scanner:
    """The quick one if this kernel's PAGEMAP_SCAN knows the category ``wanted``."""
    return pagemap if supported_categories() & wanted else EntryScan(pagemap)


def take_moment(pid: int, scanner: Scanner, layout: Layout, known: Known, proof: Proof = WRITE_PROTECTED) -> Moment:
    """Look at everything; ``known`` says how far the bits can be trusted."""
    sparse = bool(proof.not_plain) and isinstance(scanner, Pagemap) and reports_holes()
    regions = _scan(pid, scanner, layout, proof, sparse)
    data = is_data(regions)
    unproven_data = runs_of(regions, data & proof.unproven(regions))
    guard = clip(runs_of(regions, has(regions, PAGE_IS_GUARD)), layout.everything)
    anonymous = _anonymous(layout, regions, data, sparse)
    file = _file_pages(scanner, layout, unproven_data, known, proof)
    shared = merged([populated_pages(pid, piece) for piece in layout.shared_pieces])
    private = union(anonymous, file.copies)
    told = union(clip(unproven_data, layout.anonymous), file.written)
    return Moment(
        private=private,
        written=union(told, intersect(private, known.unwatched)),
        told=told,
        shared=subtract(shared, guard),
        file=file,
        zero=clip(runs_of(regions, has(regions, PAGE_IS_PFNZERO)), layout.everything),
        guard=guard,
    )


def _scan(pid: int, scanner: Scanner, layout: Layout, proof: Proof, sparse: bool) -> Regions:
    """``sparse``: all that is not plain; otherwise all that is populated."""
    fast = isinstance(scanner, Pagemap)
    spans = layout.spans if fast else _bytes(subtract(layout.everything, empty_giants(pid, layout)))
    returned = proof.returned | supported_categories() & PAGE_IS_GUARD
    if sparse:
        return scanner.scan_spans(spans, inverted=proof.inverted, anyof=proof.not_plain, returned=returned)
    return scanner.scan_spans(spans, anyof=POPULATED, returned=returned)


def _anonymous(layout: Layout, regions: Regions, data: Mask, sparse: bool) -> Runs:
    if sparse:
        return subtract(layout.anonymous, runs_of(regions, ~data))
    return clip(runs_of(regions, data), layout.anonymous)


def _bytes(runs: Runs) -> list[tuple[int, int]]:
    return [(start * PAGE_SIZE, end * PAGE_SIZE) for start, end in runs.tolist()]


@functools.cache
def reports_holes() -> bool:
    """Whether a scan for absent pages returns all of them, with and without page tables, found on memory of our own.

    What a scan says of holes has changed between kernels; where this fails, all populated pages are asked for.
    """
    size = 3 * HUGE_PAGE_SIZE
    with mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as room, Pagemap(os.getpid()) as pagemap:
        room.madvise(mmap.MADV_NOHUGEPAGE)
        start = np.frombuffer(room, np.uint8).ctypes.data
        inside = -start % HUGE_PAGE_SIZE + PAGE_SIZE
        room[inside] = 1
        regions = pagemap.scan(
            start, start + size, inverted=PAGE_IS_PRESENT, anyof=PAGE_IS_PRESENT, returned=PAGE_IS_PRESENT
        )
    found = [(int(region["start"]) - start, int(region["end"]) - start) for region in regions]
    return found == [(0, inside), (inside + PAGE_SIZE, size)]


def _file_pages(scanner: Scanner, layout: Layout, unproven_data: Runs, known: Known, proof: Proof) -> FilePages:
    hulls = _hulls(layout, unproven_data, known.copies, known.unwatched)
    if not hulls:
        return FilePages(EMPTY, EMPTY, EMPTY, EMPTY)
    returned = proof.returned | PAGE_IS_FILE | supported_categories() & PAGE_IS_GUARD
    regions = scanner.scan_spans(hulls, inverted=PAGE_IS_FILE, mask=PAGE_IS_FILE, anyof=POPULATED, returned=returned)
    mine, written = is_copy(regions), proof.unproven(regions)
    # Neither present nor written: a copy that was swapped out or dropped, or, where there was no copy, a page of the
    # file that was reclaimed and left its protection behind as a marker.
    absent = runs_of(regions, mine & ~written & ~has(regions, PAGE_IS_PRESENT))
    gone = subtract(absent, union(known.copies, known.unwatched))
    return FilePages(
        looked_at=merged([np.array(hulls, np.uint64) // np.uint64(PAGE_SIZE)]),
        copies=subtract(runs_of(regions, mine), gone),
        written=runs_of(regions, mine & written),
        doubtful=subtract(absent, gone),
    )


def _hulls(layout: Layout, *suspects: Runs) -> list[tuple[int, int]]:
    """For each file mapping with suspicious pages, the span from the first to the last of them, bytes."""
    borders = layout.file_borders
    low, high = borders[:, 1].copy(), borders[:, 0].copy()
    for pages in suspects:
        first = np.searchsorted(pages[:, 1], borders[:, 0], "right")
        last = np.searchsorted(pages[:, 0], borders[:, 1], "left")
        hit = np.flatnonzero(first < last)
        low[hit] = np.minimum(low[hit], np.maximum(pages[first[hit], 0], borders[hit, 0]))
        high[hit] = np.maximum(high[hit], np.minimum(pages[last[hit] - 1, 1], borders[hit, 1]))
    hulls: list[list[int]] = (np.stack((low, high), axis=1)[low < high] * np.uint64(PAGE_SIZE)).tolist()
    return [(start, end) for start, end in hulls]
