# SPDX-License-Identifier: Apache-2.0
"""One memory image, materialised: a page file, and for every page its slot and its hash. Layers are applied to it.

The head of a chain is an image that is kept; replaying an older checkpoint makes one that is thrown away.
"""

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Final

import numpy as np

from icecore.storage import layer, runs
from icecore.storage.hashing import Hashes, PageData, differs, hash_pages
from icecore.storage.layer_reader import LayerReader, LiveBlock
from icecore.storage.page_file import PageFile, Slots
from icecore.storage.page_table import PageTable
from icecore.storage.records import PAGE_SIZE
from icecore.storage.runs import EMPTY, Mask, Pages, Runs
from icecore.storage.workers import Workers


class TornPages(Exception):
    """Pages of the image are neither what they were nor what they shall be: it must be made anew."""


@dataclass(frozen=True)
class PageMap:
    """What the slots of a page file mean. ``slots`` and ``hashes`` are in the order of the pages of ``data``."""

    digest: str
    """The layer whose pages these are, "" before the first."""
    data: Runs
    slots: Slots
    hashes: Hashes
    zero: Runs
    guard: Runs

    @cached_property
    def numbers(self) -> Pages:
        """The pages of ``data``, ascending."""
        return runs.expand(self.data)

    def find(self, pages: Pages) -> tuple[Slots, Mask]:
        """For each page its position in ``slots`` and ``hashes``, and whether it is there at all."""
        if not len(self.numbers):
            return np.zeros(len(pages), dtype=np.int64), np.zeros(len(pages), dtype=np.bool_)
        where = np.minimum(np.searchsorted(self.numbers, pages), len(self.numbers) - 1)
        return where, (self.numbers[where] == pages).astype(np.bool_)


EMPTY_MAP: Final = PageMap("", EMPTY, np.empty(0, dtype=np.int64), np.empty((0, 2), dtype=np.uint64), EMPTY, EMPTY)


class Image:
    """A page map and its page file. ``apply`` is for one thread, ``base`` for any number."""

    def __init__(self, file: PageFile, pages: PageMap) -> None:
        self.file = file
        self.map = pages

    def base(self, pages: Pages) -> tuple[PageData, Mask, Mask]:
        """Rows with this image's copy of each page (zeros where there is none), which pages have one, which of those
        are damaged."""
        where, found = self.map.find(pages)
        copies = self.file.read(self.map.slots[where[found]])
        damaged = found.copy()
        damaged[found] = differs(hash_pages(copies), self.map.hashes[where[found]])
        if len(copies) == len(pages):
            return copies, found, damaged
        rows = np.zeros((len(pages), PAGE_SIZE), dtype=np.uint8)
        rows[found] = copies
        return rows, found, damaged

    def apply(self, source: LayerReader) -> None:
        """Make this the image of ``source``, which is a keyframe or the child of the present one.

        Repeating it after it was broken off half-way finishes it. Raises TornPages, StoreCorrupt and OSError; the page
        map is then the old one.
        """
        table = source.table
        missing = runs.subtract(table.parent, self.map.data)
        if len(missing):
            address = int(missing[0, 0]) * PAGE_SIZE
            raise source.corrupt(source.blocks.end, f"page {address:#x} is said to be in the parent, which has none")
        planned = self._plan(table, source.digest)
        with Workers[None](lambda _: None) as workers:
            for block in source.live_blocks():
                workers.submit(partial(self._apply_block, source, block, planned))
            workers.finish()
        self.map = planned

    def close(self) -> None:
        """May be called twice."""
        self.file.close()

    def _plan(self, table: PageTable, digest: str) -> PageMap:
        """The map after ``table``: pages keep their slots, new ones get free slots in ascending order."""
        slots, hashes = self._kept(table.data)
        planned = PageMap(digest, table.data, slots, hashes, table.zero, table.guard)
        hashes[planned.find(runs.expand(table.stored))[0]] = table.hashes[table.live]
        return planned

    def _kept(self, data: Runs) -> tuple[Slots, Hashes]:
        """Slots and hashes of the pages of ``data``; the hashes of pages not yet here are to be filled in."""
        gone, new = runs.subtract(self.map.data, data), runs.expand(runs.subtract(data, self.map.data))
        slots, hashes, numbers = self.map.slots, self.map.hashes.copy(), self.map.numbers
        if len(gone):
            where = self.map.find(runs.expand(gone))[0]
            slots, hashes, numbers = (
                np.delete(slots, where),
                np.delete(hashes, where, axis=0),
                np.delete(numbers, where),
            )
        if len(new):
            where = np.searchsorted(numbers, new)
            slots = np.insert(slots, where, _free_slots(slots, len(new)))
            hashes = np.insert(hashes, where, 0, axis=0)
        return slots, hashes

    def _apply_block(self, source: LayerReader, block: LiveBlock, planned: PageMap) -> None:
        data = source.decode(block.number)[block.rows]
        slots = planned.slots[planned.find(block.pages)[0]]
        xored = source.blocks.encodings[block.number] == layer.XOR
        damaged = np.zeros(len(data), dtype=np.bool_)
        if xored:
            base, _found, damaged = self.base(block.pages)
            np.bitwise_xor(data, base, out=data)
        wrong = differs(hash_pages(data), block.hashes)
        if wrong.any():
            self._explain(source, block, wrong, damaged, self.file.read(slots), data)
        self.file.write(slots, data)

    def _explain(
        self, source: LayerReader, block: LiveBlock, wrong: Mask, damaged: Mask, present: PageData, data: PageData
    ) -> None:
        """Put right what an earlier ``apply`` already did; the rest is a torn image or a damaged layer."""
        done = wrong & ~differs(hash_pages(present), block.hashes)
        data[done] = present[done]
        left = wrong & ~done
        if bool(np.any(left & damaged)):
            raise TornPages
        if left.any():
            page = int(block.pages[np.argmax(left)])
            offset = source.blocks.extent(block.number)[0]
            raise source.corrupt(offset, f"block {block.number}: page {page * PAGE_SIZE:#x} does not have its hash")


def _free_slots(used: Slots, wanted: int) -> Slots:
    """Slots not in ``used``, lowest first."""
    size = int(used.max()) + 1 if len(used) else 0
    free = np.ones(size, dtype=np.bool_)
    free[used] = False
    holes = np.flatnonzero(free)[:wanted]
    return np.concatenate((holes, np.arange(size, size + wanted - len(holes)))).astype(np.int64)
