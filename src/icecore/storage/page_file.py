# SPDX-License-Identifier: Apache-2.0
"""A file of raw 4 KiB slots, read and written in bulk.

pread and pwrite rather than a mapping: a file system that is full or broken then gives an errno, not a SIGBUS. Slots
that follow one another go in one call; the calls are made by map(), about 1 us each.
"""

import os
import threading
from itertools import pairwise, repeat

import numpy as np
import numpy.typing as npt

from icecore.storage.hashing import PageData
from icecore.storage.records import PAGE_SIZE

Slots = npt.NDArray[np.int64]


class PageFile:
    """Owns ``fd``."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        # scattered calls of two threads at once spend their time handing the GIL to and fro: 17 ms instead of 10
        self._turn = threading.Lock()

    def read(self, slots: Slots) -> PageData:
        """One row per slot; what lies past the end of the file reads as zeros."""
        out = np.empty((len(slots), PAGE_SIZE), dtype=np.uint8)
        pieces, offsets = _pieces(slots, out)
        with self._turn:
            done = sum(map(os.preadv, repeat(self.fd), zip(pieces, strict=True), offsets))
        if done != out.nbytes:
            self._read_to_end(pieces, offsets, out)
        return out

    def write(self, slots: Slots, data: PageData) -> None:
        """One row to each slot."""
        pieces, offsets = _pieces(slots, data)
        with self._turn:
            done = sum(map(os.pwrite, repeat(self.fd), pieces, offsets))
        if done != data.nbytes:
            # a disk that fills up or a size limit writes less first and fails the next call
            for piece, offset in zip(pieces, offsets, strict=True):
                _write_fully(self.fd, piece, offset)

    def _read_to_end(self, pieces: list[memoryview], offsets: list[int], out: PageData) -> None:
        out[:] = 0
        for piece, offset in zip(pieces, offsets, strict=True):
            os.preadv(self.fd, [piece], offset)

    def close(self) -> None:
        """May be called twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _pieces(slots: Slots, rows: PageData) -> tuple[list[memoryview], list[int]]:
    """Slices of ``rows`` whose slots follow one another, and the file offset of each."""
    if not len(slots):
        return [], []
    borders = [0, *(np.flatnonzero(np.diff(slots) != 1) + 1).tolist(), len(slots)]
    offsets: list[int] = (slots[borders[:-1]] * PAGE_SIZE).tolist()
    data = rows.reshape(-1).data
    return [data[low * PAGE_SIZE : high * PAGE_SIZE] for low, high in pairwise(borders)], offsets


def _write_fully(fd: int, piece: memoryview, offset: int) -> None:
    while len(piece):
        written = os.pwrite(fd, piece, offset)
        piece, offset = piece[written:], offset + written
