# SPDX-License-Identifier: Apache-2.0
"""What became of each page added to a layer, and the classes that follow from it at commit."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from icecore.storage import runs
from icecore.storage.arrays import check_disjoint
from icecore.storage.image import PageMap
from icecore.storage.page_table import last_copies
from icecore.storage.records import PAGE_SIZE
from icecore.storage.runs import EMPTY, Pages, Runs

Fates = npt.NDArray[np.uint8]


class Fate(IntEnum):
    """Of a page that was added."""

    STORED = 0
    SAME = 1
    ZERO = 2


@dataclass(frozen=True, slots=True)
class Classes:
    """The four classes of a page table."""

    stored: Runs
    parent: Runs
    zero: Runs
    guard: Runs


class Added:
    """Every page that was added, in order; of a page added twice the later one counts."""

    def __init__(self) -> None:
        self._pages: list[Pages] = []
        self._fates: list[Fates] = []

    def note(self, pages: Pages, fates: Fates) -> None:
        """Remember one batch."""
        self._pages.append(pages.copy())
        self._fates.append(fates)

    def classes(self, populated: Runs, zero: Runs, guard: Runs, known: PageMap) -> Classes:
        """Put each populated page in its class.

        Raises RuntimeError for what would be an internal error: sets that overlap, or a populated page that was neither
        added nor is known: a layer must not have a hole.
        """
        check_disjoint({"populated": populated, "zero": zero, "guard": guard})
        by_fate = {fate: runs.intersect(populated, pages) for fate, pages in self._latest().items()}
        rest = populated
        for pages in by_fate.values():
            rest = runs.subtract(rest, pages)
        known_zero = runs.intersect(rest, known.zero)
        parent = runs.intersect(rest, known.data)
        hole = runs.subtract(runs.subtract(rest, parent), known_zero)
        if len(hole):
            raise RuntimeError(f"page {int(hole[0, 0]) * PAGE_SIZE:#x} is populated but was neither added nor known")
        return Classes(
            stored=by_fate[Fate.STORED],
            parent=runs.union(parent, by_fate[Fate.SAME]),
            zero=runs.union(zero, runs.union(known_zero, by_fate[Fate.ZERO])),
            guard=guard,
        )

    def _latest(self) -> dict[Fate, Runs]:
        if not self._pages:
            return dict.fromkeys(Fate, EMPTY)
        pages, fates = np.concatenate(self._pages), np.concatenate(self._fates)
        last = last_copies(pages)
        pages, fates = pages[last], fates[last]
        return {fate: runs.from_pages(pages[fates == fate]) for fate in Fate}
