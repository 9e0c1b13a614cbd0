# SPDX-License-Identifier: Apache-2.0
"""One look at all pages of a frozen target: which are data, zero, guard, and which are proven unwritten.

A page that a scan returns costs three times what one costs that it passes over. So the one read-only scan of everything
asks for what is not plain: written, absent, zero, unprotected. The rest of each mapping is data that did not change.
``quick_scan`` spares it most of large memory.
Scans that ask for FILE follow in private file mappings (``file_pages``).
"""

import functools
import mmap
import os
from dataclasses import dataclass

import numpy as np

from icecore.daemon.tracker.entry_scan import EntryScan
from icecore.daemon.tracker.file_pages import NO_SUSPECTS, FilePages, Suspects, look_at_files, suspects
from icecore.daemon.tracker.giants import empty_giants
from icecore.daemon.tracker.layout import Layout
from icecore.daemon.tracker.proof import WRITE_PROTECTED, Proof
from icecore.daemon.tracker.quick_scan import rest_to_scan, worth_a_quick_scan
from icecore.daemon.tracker.regions import (
    POPULATED,
    Mask,
    as_bytes,
    clip,
    has,
    is_data,
    merged,
    runs_of,
)
from icecore.daemon.tracker.shared_memory import populated_pages
from icecore.kernel.pagemap import (
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
    suspects: Suspects
    """What of private file mappings is the process's own, or unwatched; pages written since may be missing."""
    large: Runs
    """Anonymous memory that is worth a quick scan."""


NOTHING_KNOWN = Known(EMPTY, NO_SUSPECTS, EMPTY)


def make_known(layout: Layout, unwatched: Runs, copies: Runs, *, quick: bool = False) -> Known:
    """All that can be said before the target is frozen. ``copies``: pages of private file mappings that are the
    process's own, but for pages written since; ``quick``: a mark that ``quick_scan`` knows is what proves."""
    large = worth_a_quick_scan(layout, unwatched) if quick else EMPTY
    return Known(unwatched, suspects(layout, union(copies, unwatched)), large)


def scanner_for(pagemap: Pagemap, wanted: int = PAGE_IS_PRESENT) -> Scanner:
    """The quick one if this kernel's PAGEMAP_SCAN knows the category ``wanted``."""
    return pagemap if supported_categories() & wanted else EntryScan(pagemap)


def take_moment(pid: int, scanner: Scanner, layout: Layout, known: Known, proof: Proof = WRITE_PROTECTED) -> Moment:
    """Look at everything; ``known`` says how far the bits can be trusted."""
    sparse = bool(proof.not_plain) and isinstance(scanner, Pagemap) and reports_holes()
    regions = _scan(pid, scanner, layout, known, proof, sparse)
    data = is_data(regions)
    unproven_data = runs_of(regions, data & proof.unproven(regions))
    guard = clip(runs_of(regions, has(regions, PAGE_IS_GUARD)), layout.everything)
    anonymous = _anonymous(layout, regions, data, sparse)
    file = look_at_files(scanner, layout, unproven_data, known.suspects, proof)
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


def _scan(pid: int, scanner: Scanner, layout: Layout, known: Known, proof: Proof, sparse: bool) -> Regions:
    """``sparse``: all that is not plain; otherwise all that is populated."""
    returned = proof.returned | supported_categories() & PAGE_IS_GUARD
    if isinstance(scanner, EntryScan):
        spans = as_bytes(subtract(layout.everything, empty_giants(pid, layout)))
        return scanner.scan_spans(spans, anyof=POPULATED, returned=returned)
    if not sparse:
        return scanner.scan_spans(layout.spans, anyof=POPULATED, returned=returned)
    rest = rest_to_scan(scanner, layout, known.large)
    return scanner.scan_spans(rest, inverted=proof.inverted, anyof=proof.not_plain, returned=returned)


def _anonymous(layout: Layout, regions: Regions, data: Mask, sparse: bool) -> Runs:
    if sparse:
        return subtract(layout.anonymous, runs_of(regions, ~data))
    return clip(runs_of(regions, data), layout.anonymous)


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
