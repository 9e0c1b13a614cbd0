# SPDX-License-Identifier: Apache-2.0
"""Sets of pages as arrays of runs.

``Runs`` is a (n, 2) array of u64: half-open runs [start page, end page), sorted, disjoint and coalesced, so that equal
sets are equal arrays. Everything here is vectorised; the cost is that of sorting the borders.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Runs: TypeAlias = npt.NDArray[np.uint64]
Pages: TypeAlias = npt.NDArray[np.uint64]
Mask: TypeAlias = npt.NDArray[np.bool_]

EMPTY: Runs = np.empty((0, 2), dtype=np.uint64)
EMPTY.setflags(write=False)


def normalise(pairs: npt.ArrayLike) -> Runs:
    """Runs of any pairs (start, end): unsorted, overlapping, touching or empty ones too."""
    array = np.asarray(pairs, dtype=np.uint64).reshape(-1, 2)
    array = array[array[:, 0] < array[:, 1]]
    if not len(array):
        return EMPTY
    array = array[np.argsort(array[:, 0], kind="stable")]
    reach = np.maximum.accumulate(array[:, 1])
    first = np.empty(len(array) + 1, np.bool_)
    first[0] = first[-1] = True
    np.greater(array[1:, 0], reach[:-1], out=first[1:-1])
    return _pairs(array[first[:-1], 0], reach[first[1:]])


def join(starts: Pages, ends: Pages) -> Runs:
    """Runs of pieces [start, end) that are in ascending order and do not overlap, but may touch."""
    if not len(starts):
        return EMPTY
    gaps = np.flatnonzero(starts[1:] != ends[:-1])
    runs = np.empty((len(gaps) + 1, 2), np.uint64)
    runs[0, 0], runs[1:, 0] = starts[0], starts[gaps + 1]
    runs[-1, 1], runs[:-1, 1] = ends[-1], ends[gaps]
    return runs


def from_pages(pages: Pages) -> Runs:
    """Runs of page numbers in ascending order; repeated ones are allowed."""
    if not len(pages):
        return EMPTY
    gap = np.flatnonzero(pages[1:] > pages[:-1] + np.uint64(1)) + 1
    starts = pages[np.concatenate(([0], gap))]
    ends = pages[np.concatenate((gap - 1, [len(pages) - 1]))] + np.uint64(1)
    return _pairs(starts, ends)


def expand(runs: Runs) -> Pages:
    """Every page number, ascending."""
    lengths = runs[:, 1] - runs[:, 0]
    before = np.cumsum(lengths) - lengths
    total = int(lengths.sum())
    shift: Pages = np.repeat(runs[:, 0] - before, lengths.astype(np.int64))
    return np.arange(total, dtype=np.uint64) + shift


def count(runs: Runs) -> int:
    """How many pages."""
    return int((runs[:, 1] - runs[:, 0]).sum())


def contains(runs: Runs, pages: Pages) -> Mask:
    """For each page, whether it lies in ``runs``."""
    return _inside(runs.reshape(-1), pages)


def union(a: Runs, b: Runs) -> Runs:
    """Pages in either."""
    if not len(a) or not len(b):
        return b if not len(a) else a
    return normalise(np.concatenate((a, b)))


def intersect(a: Runs, b: Runs) -> Runs:
    """Pages in both."""
    if not len(a) or not len(b) or _apart(a, b):
        return EMPTY
    return a if np.array_equal(a, b) else _select(a, b, wanted_in_b=True)


def subtract(a: Runs, b: Runs) -> Runs:
    """Pages of ``a`` that are not in ``b``."""
    if not len(a) or not len(b) or _apart(a, b):
        return a
    return EMPTY if np.array_equal(a, b) else _select(a, b, wanted_in_b=False)


def split_blocks(runs: Runs, pages_per_block: int) -> Iterator[Runs]:
    """Cut into pieces of at most ``pages_per_block`` pages, in order; small runs share a piece."""
    lengths = runs[:, 1] - runs[:, 0]
    before = np.cumsum(lengths) - lengths
    total = int(lengths.sum())
    borders = np.arange(0, total, pages_per_block, dtype=np.uint64)
    cuts = np.union1d(before, borders)
    run = np.searchsorted(before, cuts, side="right") - 1
    starts = runs[run, 0] + (cuts - before[run])
    sizes = np.diff(np.append(cuts, np.uint64(total)))
    pieces = np.stack((starts, starts + sizes), axis=1)
    where = [*np.searchsorted(cuts, borders).tolist(), len(cuts)]
    return (pieces[low:high] for low, high in pairwise(where))


def _inside(borders: npt.NDArray[np.uint64], points: npt.NDArray[np.uint64]) -> Mask:
    """The borders of runs alternate between start and end: an odd number of them at or below a point means inside."""
    return (np.searchsorted(borders, points, side="right") & 1).astype(np.bool_)


def _select(a: Runs, b: Runs, *, wanted_in_b: bool) -> Runs:
    """Cut ``a`` at every border of either set and keep the pieces that are in ``b``, or those that are not."""
    borders_a, borders_b = a.reshape(-1), b.reshape(-1)
    points = np.sort(np.concatenate((borders_a, borders_b)), kind="stable")
    starts, ends = points[:-1], points[1:]
    keep = _inside(borders_a, starts) & (_inside(borders_b, starts) == wanted_in_b) & (starts < ends)
    return join(starts[keep], ends[keep])


def _apart(a: Runs, b: Runs) -> bool:
    """Whether all of one comes before all of the other."""
    return bool(a[-1, 1] <= b[0, 0] or b[-1, 1] <= a[0, 0])


def _pairs(starts: Pages, ends: Pages) -> Runs:
    runs = np.empty((len(starts), 2), np.uint64)
    runs[:, 0], runs[:, 1] = starts, ends
    return runs
