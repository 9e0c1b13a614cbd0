# SPDX-License-Identifier: Apache-2.0
"""The layer file: constants, and what is known about a layer. docs/format.md is the reference.

A layer is a header, blocks of about 1 MiB of pages, the page table, the index and a trailer. The digest in the trailer
covers header, index and the rest of the trailer; the index has the digests of the blocks and of the page table: it is
thus a digest over the whole, and one that can be checked without reading the whole.
"""

import struct
from dataclasses import dataclass
from typing import Final

MAGIC: Final = b"ICELAYER"
END_MAGIC: Final = b"ICELAEND"
VERSION: Final = 1
HEADER: Final = struct.Struct("<8sII")
"""Magic, version, zero."""
TRAILER: Final = struct.Struct("<QQ32s8s")
"""Offset and length of the index, digest of the layer, end magic."""
TRAILER_COVERED: Final = 16
"""Bytes of the trailer that the digest covers."""

RAW, XOR = 0, 1
"""Encodings of a block: the pages themselves; the pages XOR the same pages of the parent (zeros where it has none)."""
PAGES_PER_BLOCK: Final = 256
MAX_PAGES_PER_BLOCK: Final = 4096
"""What a reader accepts: 16 MiB."""
MAX_INDEX: Final = 64 << 20
"""Bytes after decompression that a reader accepts."""
FEATURES: Final[frozenset[str]] = frozenset()
"""Required features this release knows."""

KEYFRAME, DELTA = "keyframe", "delta"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerStats:
    """What the engine knows about how a checkpoint was taken."""

    tracker: str = ""
    tracker_reason: str = ""
    rounds: int = 0
    pause_us: int = 0
    pages_dirty: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerInfo:
    """One line about a layer. ``bytes_raw`` is ``pages_stored`` in bytes, ``bytes_written`` the size of the file."""

    id: int
    kind: str
    digest: str
    parent: str
    """Digest of the layer before, "" for the first."""
    time_ns: int
    tracker: str
    tracker_reason: str
    rounds: int
    pause_us: int
    pages_populated: int
    pages_dirty: int
    pages_stored: int
    bytes_raw: int
    bytes_written: int
    ranges: bool
    pid: int
    start_time: int
    comm: str


NOT_IN_FILE: Final = frozenset({"id", "digest", "bytes_written"})
"""Fields of LayerInfo that the file's name, trailer and size say."""
