# SPDX-License-Identifier: Apache-2.0
"""The page table of a layer: which pages exist, where the bytes of each are, and the hash of each copy in the file."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from icecore.storage import arrays, codec, runs, zstd
from icecore.storage.codec import DecodeError
from icecore.storage.hashing import Hashes
from icecore.storage.runs import Pages, Runs

MAX_TABLE: Final = 512 << 20
"""Bytes after decompression that a reader accepts."""
_CLASSES: Final = ("stored", "parent", "zero", "guard")

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageTable:
    """Every populated page is in exactly one of the four classes; what is in none does not exist."""

    numbers: Pages
    """The page of each copy in the blocks, in file order; of several copies of one page the last one counts."""
    hashes: Hashes
    """xxh3-128 of each copy."""
    stored: Runs
    """Pages whose bytes are the last copy in this file."""
    parent: Runs
    """Pages whose bytes are those of the parent."""
    zero: Runs
    """Pages that are populated and all zeros."""
    guard: Runs
    """Pages that fault on access (MADV_GUARD_INSTALL)."""
    live: Positions = field(init=False)
    """For each page of ``stored``, ascending, the position of the copy that counts."""

    def __post_init__(self) -> None:
        """Raises DecodeError if the classes overlap or a stored page has no copy."""
        arrays.check_disjoint({name: getattr(self, name) for name in _CLASSES})
        live = last_copies(self.numbers)
        live = live[runs.contains(self.stored, self.numbers[live])]
        if len(live) != runs.count(self.stored):
            raise DecodeError(f"page table: {runs.count(self.stored)} pages stored, {len(live)} copies in the blocks")
        object.__setattr__(self, "live", live)

    @property
    def data(self) -> Runs:
        """Pages that have bytes, here or in the parent."""
        return runs.union(self.stored, self.parent)


def last_copies(numbers: Pages) -> Positions:
    """Positions of the last copy of each page, in the order of page numbers (nearly sorted input costs O(n))."""
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    is_last = np.append(ordered[1:] != ordered[:-1], True)[: len(ordered)]
    last: Positions = order[is_last]
    return last


def pack(table: PageTable) -> bytes:
    """The compressed page table."""
    plain = {name: arrays.pack_runs(getattr(table, name)) for name in _CLASSES}
    numbers = {"numbers": arrays.pack_numbers(table.numbers), "hashes": table.hashes.astype("<u8").tobytes()}
    return zstd.compress(codec.pack(plain | numbers))


def unpack(frame: bytes, copies: int) -> PageTable:
    """The page table of a layer with so many copies in its blocks. Raises DecodeError if it is inconsistent."""
    plain = codec.unpack(zstd.decompress(frame, MAX_TABLE))
    numbers = arrays.unpack_numbers(arrays.binary(plain, "numbers"), "numbers")
    if len(numbers) != copies:
        raise DecodeError(f"page table: {len(numbers)} copies listed, {copies} in the blocks")
    hashes = arrays.unpack_hashes(arrays.binary(plain, "hashes"), copies)
    classes = {name: arrays.unpack_runs(arrays.binary(plain, name), name) for name in _CLASSES}
    return PageTable(numbers=numbers, hashes=hashes, **classes)
