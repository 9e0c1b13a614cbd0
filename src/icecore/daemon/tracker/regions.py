# SPDX-License-Identifier: Apache-2.0
"""From the regions that PAGEMAP_SCAN returns to runs of pages."""

import numpy as np
from numpy.typing import NDArray

from icecore.kernel.pagemap import (
    PAGE_IS_FILE,
    PAGE_IS_GUARD,
    PAGE_IS_PFNZERO,
    PAGE_IS_PRESENT,
    PAGE_IS_SWAPPED,
    PAGE_IS_WPALLOWED,
    PAGE_IS_WRITTEN,
    Regions,
    supported_categories,
)
from icecore.storage.records import PAGE_SIZE
from icecore.storage.runs import EMPTY, Runs, join, normalise

POPULATED = PAGE_IS_PRESENT | PAGE_IS_SWAPPED
"""A page, a swap entry, or a marker that stands for neither (guard pages, and see ``FilePages.doubtful``)."""
CLASSES = PAGE_IS_WPALLOWED | PAGE_IS_WRITTEN | PAGE_IS_PRESENT | PAGE_IS_SWAPPED | PAGE_IS_PFNZERO
"""What a scan returns that is to tell data from zero and guard pages, without PAGE_IS_FILE: that makes it 15 times
slower."""

Mask = NDArray[np.bool_]


def classes() -> int:
    """CLASSES, and GUARD on a kernel that has it (6.16)."""
    return CLASSES | supported_categories() & PAGE_IS_GUARD


def has(regions: Regions, categories: int) -> Mask:
    """Which regions have any of the categories."""
    found: Mask = (regions["categories"] & np.uint64(categories)) != 0
    return found


def is_data(regions: Regions) -> Mask:
    """Which regions have bytes of their own, or a file's: neither holes nor zero nor guard pages."""
    return has(regions, POPULATED) & ~has(regions, PAGE_IS_PFNZERO | PAGE_IS_GUARD)


def unproven(regions: Regions) -> Mask:
    """Which regions are not proven unwritten: written, or not write-protected asynchronously at all."""
    found: Mask = (regions["categories"] & np.uint64(PAGE_IS_WRITTEN | PAGE_IS_WPALLOWED)) != PAGE_IS_WPALLOWED
    return found


def is_copy(regions: Regions) -> Mask:
    """Which regions of a private file mapping may differ from the file."""
    return is_data(regions) & ~has(regions, PAGE_IS_FILE)


def runs_of(regions: Regions, chosen: Mask) -> Runs:
    """The pages of the chosen regions, which are in ascending order as a scan returns them."""
    starts, ends = regions["start"][chosen], regions["end"][chosen]
    pages: Runs = join(starts, ends) // np.uint64(PAGE_SIZE)
    return pages


def clip(many: Runs, few: Runs) -> Runs:
    """``intersect`` for many runs and few, at the cost of a copy instead of a sort."""
    if not len(many) or not len(few):
        return EMPTY
    first = np.searchsorted(many[:, 1], few[:, 0], "right")
    last = np.searchsorted(many[:, 0], few[:, 1], "left")
    kept = np.flatnonzero(first < last)
    first, last = first[kept], last[kept]
    lengths = last - first
    at = np.cumsum(lengths) - lengths
    found: Runs = many[np.arange(int(lengths.sum())) + np.repeat(first - at, lengths)]
    found[at, 0] = np.maximum(found[at, 0], few[kept, 0])
    ends = at + lengths - 1
    found[ends, 1] = np.minimum(found[ends, 1], few[kept, 1])
    return found


def merged(parts: list[Runs]) -> Runs:
    """One set of pages from many."""
    return normalise(np.concatenate(parts)) if parts else EMPTY


def is_within(runs: Runs, others: Runs) -> bool:
    """Whether each run lies in one of the others."""
    if not len(runs) or not len(others):
        return not len(runs)
    before = np.searchsorted(others[:, 0], runs[:, 0], "right") - 1
    return bool(((before >= 0) & (others[before, 1] >= runs[:, 1])).all())


def covers(runs: Runs, start: int, end: int) -> bool:
    """Whether one run has all of [start, end), pages."""
    before = int(np.searchsorted(runs[:, 0], start, "right"))
    return before > 0 and int(runs[before - 1, 1]) >= end


def pages_between(start: int, end: int) -> Runs:
    """[start, end), bytes, as one run."""
    return normalise(np.array([(start // PAGE_SIZE, end // PAGE_SIZE)], np.uint64))


def as_bytes(runs: Runs) -> list[tuple[int, int]]:
    """[start, end) of each run in bytes."""
    return [(start * PAGE_SIZE, end * PAGE_SIZE) for start, end in runs.tolist()]
