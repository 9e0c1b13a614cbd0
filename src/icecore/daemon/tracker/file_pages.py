# SPDX-License-Identifier: Apache-2.0
"""Which pages of private file mappings are the process's own: scans that ask for FILE, which is slow, where needed."""

from dataclasses import dataclass

import numpy as np

from icecore.daemon.tracker.entry_scan import EntryScan
from icecore.daemon.tracker.layout import Layout
from icecore.daemon.tracker.proof import Proof
from icecore.daemon.tracker.regions import POPULATED, clip, has, is_copy, is_within, merged, runs_of
from icecore.kernel.pagemap import PAGE_IS_FILE, PAGE_IS_GUARD, PAGE_IS_PRESENT, Pagemap, supported_categories
from icecore.storage.records import PAGE_SIZE
from icecore.storage.runs import EMPTY, Runs, subtract, union


@dataclass(frozen=True, slots=True)
class FilePages:
    """The pages of private file mappings that are not the file's."""

    looked_at: Runs
    copies: Runs
    written: Runs
    doubtful: Runs
    """Copies that are in swap, or were dropped so that only a marker is left and the file shows again: unknown."""


@dataclass(frozen=True, slots=True)
class Suspects:
    """Where pages of private file mappings may be copies whatever the main scan says."""

    pages: Runs
    spans: list[tuple[int, int]]
    """For each mapping with such pages, from the first to the last, bytes."""
    hulls: Runs
    """The same in pages."""


NO_SUSPECTS = Suspects(EMPTY, [], EMPTY)
NO_FILE_PAGES = FilePages(EMPTY, EMPTY, EMPTY, EMPTY)


def suspects(layout: Layout, pages: Runs) -> Suspects:
    """``pages``, wherever they are, as far as files are mapped there."""
    spans = _spans(layout, pages)
    return (
        Suspects(pages, spans, merged([np.array(spans, np.uint64) // np.uint64(PAGE_SIZE)])) if spans else NO_SUSPECTS
    )


def look_at_files(
    scanner: Pagemap | EntryScan, layout: Layout, unproven_data: Runs, known: Suspects, proof: Proof
) -> FilePages:
    """``unproven_data``: what the main scan found written, of any mapping."""
    fresh = clip(unproven_data, layout.file)
    where = known if is_within(fresh, known.hulls) else suspects(layout, union(known.pages, fresh))
    if not where.spans:
        return NO_FILE_PAGES
    returned = proof.returned | PAGE_IS_FILE | supported_categories() & PAGE_IS_GUARD
    regions = scanner.scan_spans(
        where.spans, inverted=PAGE_IS_FILE, mask=PAGE_IS_FILE, anyof=POPULATED, returned=returned
    )
    mine, written = is_copy(regions), proof.unproven(regions)
    # Neither present nor written: a copy that was swapped out or dropped, or, where there was no copy, a page of the
    # file that was reclaimed and left its protection behind as a marker.
    absent = runs_of(regions, mine & ~written & ~has(regions, PAGE_IS_PRESENT))
    gone = subtract(absent, known.pages)
    return FilePages(
        looked_at=where.hulls,
        copies=subtract(runs_of(regions, mine), gone),
        written=runs_of(regions, mine & written),
        doubtful=subtract(absent, gone),
    )


def _spans(layout: Layout, pages: Runs) -> list[tuple[int, int]]:
    borders = layout.file_borders
    first = np.searchsorted(pages[:, 1], borders[:, 0], "right")
    last = np.searchsorted(pages[:, 0], borders[:, 1], "left")
    hit = np.flatnonzero(first < last)
    low = np.maximum(pages[first[hit], 0], borders[hit, 0])
    high = np.minimum(pages[last[hit] - 1, 1], borders[hit, 1])
    spans: list[list[int]] = (np.stack((low, high), axis=1) * np.uint64(PAGE_SIZE)).tolist()
    return [(start, end) for start, end in spans]
