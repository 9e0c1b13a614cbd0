# SPDX-License-Identifier: Apache-2.0
"""Two hashes: xxh3-128 tells whether a page changed or is damaged, blake3 is the identity of a block or a layer.

Measured on rows of 4 KiB: map() of the C function over the rows 8.9 GB/s, over slices of a memoryview 8.8, over void
scalars 7.3, over bytes objects 6.4.
"""

from typing import TypeAlias

import blake3
import numpy as np
import numpy.typing as npt
import xxhash

from icecore.storage.records import PAGE_SIZE
from icecore.storage.runs import Mask

PageData: TypeAlias = npt.NDArray[np.uint8]
"""Shape (n, 4096)."""
Hashes: TypeAlias = npt.NDArray[np.uint64]
"""Shape (n, 2): the 16 bytes of each canonical (big-endian) xxh3-128 digest, seen as two little-endian u64."""

DIGEST_SIZE = 32


def hash_pages(pages: PageData) -> Hashes:
    """xxh3-128 of each row."""
    return np.frombuffer(b"".join(map(xxhash.xxh3_128_digest, pages)), dtype="<u8").reshape(-1, 2)


ZERO_HASH: Hashes = hash_pages(np.zeros((1, PAGE_SIZE), dtype=np.uint8))[0]
"""Of a page of zeros, shape (2,)."""


def differs(a: Hashes, b: Hashes) -> Mask:
    """For each row, whether the hashes are different."""
    different: Mask = (a[:, 0] != b[:, 0]) | (a[:, 1] != b[:, 1])
    return different


def is_zero(hashes: Hashes) -> Mask:
    """For each row, whether it is the hash of a page of zeros."""
    zero: Mask = (hashes[:, 0] == ZERO_HASH[0]) & (hashes[:, 1] == ZERO_HASH[1])
    return zero


def checksum(*parts: bytes | memoryview) -> bytes:
    """xxh3-128 of the parts one after the other, 16 bytes."""
    state = xxhash.xxh3_128()
    for part in parts:
        state.update(part)
    return state.digest()


def digest(*parts: bytes) -> bytes:
    """blake3 of the parts one after the other, 32 bytes."""
    state = blake3.blake3()
    for part in parts:
        state.update(part)
    return state.digest()
