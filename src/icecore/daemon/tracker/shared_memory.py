# SPDX-License-Identifier: Apache-2.0
"""Which pages of shared memory hold data: the object knows, the process's page tables do not."""

import errno
import os
from collections.abc import Iterator

import numpy as np

from icecore.daemon.tracker.layout import Piece
from icecore.storage.records import PAGE_SIZE
from icecore.storage.runs import EMPTY, Runs, normalise


def populated_pages(pid: int, piece: Piece) -> Runs:
    """The pages of a mapping that the object has, in memory or swap; all of them if we may not look at the object.

    Looking needs CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN (/proc/PID/map_files). A mapping that changed since it was
    listed has none.
    """
    try:
        fd = os.open(f"/proc/{pid}/map_files/{piece.vma.start:x}-{piece.vma.end:x}", os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        return _pages(piece, [(piece.start, piece.end)])
    except FileNotFoundError:
        return EMPTY
    try:
        first = piece.vma.offset + piece.start - piece.vma.start
        extents = list(_extents(fd, first, first + piece.end - piece.start))
    finally:
        os.close(fd)
    return _pages(piece, [(start - first + piece.start, end - first + piece.start) for start, end in extents])


def _extents(fd: int, offset: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of [offset, end) that are not holes, in bytes."""
    while offset < end:
        try:
            data = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        hole = os.lseek(fd, data, os.SEEK_HOLE)
        if data < end:
            yield data, min(hole, end)
        offset = hole


def _pages(piece: Piece, extents: list[tuple[int, int]]) -> Runs:
    pairs = [(start // PAGE_SIZE, min(-(-end // PAGE_SIZE), piece.end // PAGE_SIZE)) for start, end in extents]
    return normalise(np.array(pairs, np.uint64)) if pairs else EMPTY
