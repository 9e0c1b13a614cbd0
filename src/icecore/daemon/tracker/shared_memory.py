# SPDX-License-Identifier: Apache-2.0
"""Which pages of shared memory hold data: the object knows, the process's page tables do not."""

import numpy as np

from icecore.daemon.tracker.layout import Piece
from icecore.kernel.map_files import data_extents
from icecore.storage.records import PAGE_SIZE
from icecore.storage.runs import EMPTY, Runs, normalise


def populated_pages(pid: int, piece: Piece) -> Runs:
    """The pages of a mapping that the object has, in memory or swap; all of them if we may not look at the object.

    Looking needs CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN. A mapping that changed since it was listed has none.
    """
    vma = piece.vma
    first = vma.offset + piece.start - vma.start
    try:
        extents = data_extents(pid, (vma.start, vma.end), first, first + piece.end - piece.start)
    except PermissionError:
        extents = [(first, first + piece.end - piece.start)]
    except FileNotFoundError:
        return EMPTY
    return _pages(piece, [(start - first + piece.start, end - first + piece.start) for start, end in extents])


def _pages(piece: Piece, extents: list[tuple[int, int]]) -> Runs:
    pairs = [(start // PAGE_SIZE, min(-(-end // PAGE_SIZE), piece.end // PAGE_SIZE)) for start, end in extents]
    return normalise(np.array(pairs, np.uint64)) if pairs else EMPTY
