# SPDX-License-Identifier: Apache-2.0
"""Reserved address space: mappings so large that reading the entries of all their pages would take seconds."""

from icecore.daemon.tracker.layout import Layout
from icecore.kernel.procfs import read_resident_kb
from icecore.storage.records import PAGE_SIZE
from icecore.storage.runs import EMPTY, Runs, normalise

GIANT = 1 << 30
"""Bytes; 2 MiB of entries, some milliseconds."""


def empty_giants(pid: int, layout: Layout) -> Runs:
    """Giants without a page in memory or swap. Pages that were only ever read are zero, and are not counted."""
    giants = [piece for piece in layout.pieces if piece.end - piece.start > GIANT]
    if not giants:
        return EMPTY
    resident = read_resident_kb(pid)
    empty = [piece for piece in giants if not resident.get((piece.vma.start, piece.vma.end), 1)]
    return normalise([(piece.start // PAGE_SIZE, piece.end // PAGE_SIZE) for piece in empty])
