# SPDX-License-Identifier: Apache-2.0
"""Pages by number and their bytes: looking for some, comparing some, never one by one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from support.memory import PAGE, Content, Pages

Mask = NDArray[np.bool_]


def is_in(pages: Pages, others: Pages) -> Mask:
    """For each of ``pages`` whether ``others``, ascending, have it."""
    return _find(others, pages)[1]


def _find(here: Pages, pages: Pages) -> tuple[NDArray[np.intp], Mask]:
    rows = np.searchsorted(here, pages)
    rows[rows == len(here)] = 0
    found: Mask = here[rows] == pages if len(here) else np.zeros(len(pages), np.bool_)
    return rows, found


@dataclass(frozen=True, slots=True)
class Memory:
    """Pages by number, ascending, and their bytes."""

    pages: Pages
    content: Content

    def find(self, pages: Pages) -> tuple[NDArray[np.intp], Mask]:
        """For each of ``pages`` its row, and whether it is here at all."""
        return _find(self.pages, pages)

    def equal(self, pages: Pages, content: Content) -> Mask:
        """For each of ``pages`` whether it is here with those bytes."""
        rows, same = self.find(pages)
        same[same] = _same_rows(_chosen(self.content, rows[same]), _chosen(content, np.flatnonzero(same)))
        return same


def _chosen(content: Content, rows: NDArray[np.intp]) -> Content:
    """These rows; copied only if they are not neighbours."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1:  # ascending, so all between are wanted
        return content[rows[0] : rows[0] + len(rows)]
    return content[rows]


def _same_rows(one: Content, other: Content) -> Mask:
    """Eight bytes at a time; page by page only if the whole is not the same."""
    left, right = one.view(np.uint64), other.view(np.uint64)
    differs = left != right
    if not differs.any():
        return np.ones(len(left), np.bool_)
    same: Mask = ~differs.any(axis=1)
    return same


NOTHING = Memory(np.empty(0, np.uint64), np.empty((0, PAGE), np.uint8))
