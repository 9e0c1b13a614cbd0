# SPDX-License-Identifier: Apache-2.0
"""Arrays of page numbers and runs as bytes: first differences, little-endian u64, which zstd shrinks to nothing."""

from typing import Final, cast

import numpy as np

from icecore.storage.codec import DecodeError
from icecore.storage.hashing import Hashes
from icecore.storage.runs import Pages, Runs

MAX_PAGE: Final = 1 << 52
"""Page numbers are below: addresses have 64 bits."""


def pack_numbers(numbers: Pages) -> bytes:
    """Differences wrap around: numbers may go down."""
    return np.diff(numbers, prepend=np.uint64(0)).astype("<u8").tobytes()


def unpack_numbers(data: bytes, name: str) -> Pages:
    """Page numbers in any order."""
    if len(data) % 8:
        raise DecodeError(f"{name}: {len(data)} bytes are no array of u64")
    numbers = np.cumsum(np.frombuffer(data, dtype="<u8"), dtype=np.uint64)
    if len(numbers) and int(numbers.max()) >= MAX_PAGE:
        raise DecodeError(f"{name}: page number {int(numbers.max()):#x} is out of range")
    return numbers


def pack_runs(runs: Runs) -> bytes:
    """Borders as numbers."""
    return pack_numbers(runs.reshape(-1))


def unpack_runs(data: bytes, name: str) -> Runs:
    """Runs, proven to be sorted, disjoint and coalesced."""
    borders = unpack_numbers(data, name)
    if len(borders) % 2 or not bool(np.all(borders[1:] > borders[:-1])):
        raise DecodeError(f"{name}: runs are not in order")
    return borders.reshape(-1, 2)


def unpack_hashes(data: bytes, count: int) -> Hashes:
    """One 16-byte hash per page."""
    if len(data) != 16 * count:
        raise DecodeError(f"hashes: {len(data)} bytes for {count} pages")
    return np.frombuffer(data, dtype="<u8").reshape(-1, 2)


def binary(plain: object, name: str) -> bytes:
    """The bin field ``name`` of a decoded map."""
    value = cast("dict[str, object]", plain).get(name) if isinstance(plain, dict) else None
    if not isinstance(value, bytes):
        raise DecodeError(f"{name}: bin expected")
    return value


def check_disjoint(classes: dict[str, Runs]) -> None:
    """A page has one class only."""
    every = np.concatenate(list(classes.values()))
    every = every[np.argsort(every[:, 0], kind="stable")]
    if bool(np.any(every[1:, 0] < every[:-1, 1])):
        raise DecodeError(f"page classes overlap: {', '.join(classes)}")


def text(plain: object, name: str) -> str:
    """The str field ``name`` of a decoded map."""
    value = cast("dict[str, object]", plain).get(name) if isinstance(plain, dict) else None
    if not isinstance(value, str):
        raise DecodeError(f"{name}: str expected")
    return value
