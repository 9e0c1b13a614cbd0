# SPDX-License-Identifier: Apache-2.0
"""One block of pages to one zstd frame: raw, or XOR-ed with the parent's copies where that is smaller."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from icecore.storage import layer, zstd
from icecore.storage.hashing import Hashes, PageData, digest
from icecore.storage.image import Image
from icecore.storage.records import PAGE_SIZE
from icecore.storage.runs import Pages
from icecore.storage.workers import Workers

SURELY_SMALLER: Final = 2
"""An XOR with fewer than one byte in so many set is taken without compressing the raw pages to compare."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A block as it goes to the file."""

    frame: bytes
    digest: bytes
    encoding: int
    pages: Pages
    hashes: Hashes
    head_damaged: bool


def encode(pages: Pages, data: PageData, hashes: Hashes, head: Image | None) -> Encoded:
    """Compress one block. If a page of the head is damaged the block stays raw, which heals that page."""
    damaged, encoding, frame = False, layer.RAW, b""
    if head is not None:
        base, found, broken = head.base(pages)
        damaged = bool(broken.any())
        if found.any() and not damaged:
            encoding, frame = _smaller(data, np.bitwise_xor(data, base, out=base))
    frame = frame or zstd.compress(data.data)
    return Encoded(frame, digest(frame), encoding, pages, hashes, damaged)


def _smaller(data: PageData, difference: PageData) -> tuple[int, bytes]:
    xored = zstd.compress(difference.data)
    if np.count_nonzero(difference) * SURELY_SMALLER < difference.size:
        return layer.XOR, xored
    raw = zstd.compress(data.data)
    return (layer.XOR, xored) if len(xored) < len(raw) else (layer.RAW, raw)


class Encoder:
    """Collects pages into blocks and encodes them in threads; ``deliver`` gets them in the order they came."""

    def __init__(self, head: Image | None, deliver: Callable[[Encoded], None]) -> None:
        self._head = head
        self._workers: Workers[Encoded] = Workers(deliver)
        self._new_block()

    def add(self, pages: Pages, data: PageData, hashes: Hashes) -> None:
        """Copies ``data``; waits when too much is in flight."""
        done = 0
        while done < len(pages):
            step = min(len(pages) - done, layer.PAGES_PER_BLOCK - self._filled)
            block, source = slice(self._filled, self._filled + step), slice(done, done + step)
            self._pages[block], self._data[block], self._hashes[block] = pages[source], data[source], hashes[source]
            self._filled += step
            done += step
            if self._filled == layer.PAGES_PER_BLOCK:
                self._submit()

    def finish(self) -> None:
        """Encode what is left and wait for everything."""
        if self._filled:
            self._submit()
        self._workers.finish()

    def close(self) -> None:
        """Stop the threads."""
        self._workers.close()

    def _submit(self) -> None:
        used = slice(0, self._filled)
        self._workers.submit(partial(encode, self._pages[used], self._data[used], self._hashes[used], self._head))
        self._new_block()

    def _new_block(self) -> None:
        self._filled = 0
        self._pages = np.empty(layer.PAGES_PER_BLOCK, dtype=np.uint64)
        self._data = np.empty((layer.PAGES_PER_BLOCK, PAGE_SIZE), dtype=np.uint8)
        self._hashes = np.empty((layer.PAGES_PER_BLOCK, 2), dtype=np.uint64)
