# SPDX-License-Identifier: Apache-2.0
"""Page tables that changed places: mremap moves whole ones, 2 MiB aligned, without marking their pages.

Two such regions that swap places look the same in /proc/PID/maps, and clean. But the page frame behind an address is
another then, so one page of each 2 MiB is compared. Frame numbers are shown to CAP_SYS_ADMIN only; without it such a
swap is not noticed.
"""

import numpy as np
from numpy.typing import NDArray

from icecore.daemon.tracker.entry_scan import FRAME, zero_page
from icecore.kernel.pagemap import PM_PRESENT, PM_SWAP, Pagemap
from icecore.storage.runs import EMPTY, Pages, Runs, normalise

PAGES_PER_TABLE = np.uint64(512)
IDENTITY = FRAME | np.uint64(PM_PRESENT | PM_SWAP)


class Frames:
    """What was behind one data page of each page table at the last clear."""

    def __init__(self, pagemap: Pagemap) -> None:
        self._pagemap = pagemap
        self._pages: Pages = np.empty(0, np.uint64)
        self._entries: NDArray[np.uint64] = np.empty(0, np.uint64)

    def remember(self, data: Runs) -> None:
        """The target is frozen; ``data``: its data pages."""
        if not zero_page():
            return
        self._pages = _first_of_each_table(data)
        self._entries = self._read()

    def moved(self) -> Runs:
        """The tables in which the page is another one: moved, or only copied on write, migrated or swapped."""
        elsewhere = self._pages[self._read() != self._entries] // PAGES_PER_TABLE * PAGES_PER_TABLE
        if not len(elsewhere):
            return EMPTY
        return normalise(np.stack((elsewhere, elsewhere + PAGES_PER_TABLE), axis=1))

    def _read(self) -> NDArray[np.uint64]:
        raw = b"".join(map(self._pagemap.entry, self._pages.tolist()))
        entries: NDArray[np.uint64] = np.frombuffer(raw, np.uint64) & IDENTITY
        return entries


def _first_of_each_table(data: Runs) -> Pages:
    """Of each run the first page, and the first in every table that it enters."""
    if not len(data):
        return np.empty(0, np.uint64)
    first, last = data[:, 0] // PAGES_PER_TABLE, (data[:, 1] - np.uint64(1)) // PAGES_PER_TABLE
    counts = (last - first + np.uint64(1)).astype(np.int64)
    before = np.cumsum(counts) - counts
    tables = np.repeat(first - before.astype(np.uint64), counts) + np.arange(int(counts.sum()), dtype=np.uint64)
    pages: Pages = np.maximum(tables * PAGES_PER_TABLE, np.repeat(data[:, 0], counts))
    _, kept = np.unique(tables, return_index=True)
    return np.take(pages, kept)
