# SPDX-License-Identifier: Apache-2.0
"""The index of a layer: what kind it is, what is known about it, whose memory it is, and where the blocks are."""

import dataclasses
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from icecore.storage import codec, layer, zstd
from icecore.storage.codec import DecodeError
from icecore.storage.hashing import DIGEST_SIZE
from icecore.storage.layer import LayerInfo
from icecore.storage.records import Process, RangeMemory
from icecore.storage.typed import from_plain, to_plain

_NOT_STORED: Final = frozenset({"id", "digest", "bytes_written"})
"""Fields of LayerInfo that the file's name, trailer and size say."""
Record = Process | RangeMemory | None
"""What a layer says beside its pages: of a process, of some ranges of one, or nothing."""
_KINDS: Final = frozenset({layer.KEYFRAME, layer.DELTA})


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockTable:
    """Arrays with one entry per block, in file order."""

    lengths: bytes
    """u32: bytes of the zstd frame."""
    pages: bytes
    """u32."""
    encodings: bytes
    """u8: RAW or XOR."""
    digests: bytes
    """32 bytes each: blake3 of the frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """The index as it is in the file, without ``info``, ``process`` and ``memory``."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    blocks: BlockTable
    table_length: int
    """The page table's frame follows the last block."""
    table_digest: bytes


@dataclass(frozen=True, slots=True)
class Blocks:
    """A checked block table: frames follow one another from the end of the header."""

    offsets: npt.NDArray[np.int64]
    """Of each frame, and the end of the last."""
    first_copy: npt.NDArray[np.int64]
    """Position of each block's first page among all copies, and the number of copies."""
    encodings: bytes
    digests: bytes

    @property
    def end(self) -> int:
        """Offset of the byte after the last block."""
        return int(self.offsets[-1])

    @property
    def copies(self) -> int:
        """Pages in all blocks."""
        return int(self.first_copy[-1])

    def extent(self, block: int) -> tuple[int, int, int]:
        """Offset and length of the frame, number of pages."""
        offset, end = self.offsets[block : block + 2].tolist()
        first, last = self.first_copy[block : block + 2].tolist()
        return offset, end - offset, last - first

    def digest(self, block: int) -> bytes:
        """blake3 of the frame."""
        return self.digests[block * DIGEST_SIZE : (block + 1) * DIGEST_SIZE]


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """A checked index; ``info``, ``process`` and ``memory`` are still plain values."""

    required: tuple[str, ...]
    blocks: Blocks
    table_length: int
    table_digest: bytes
    info: dict[str, object]
    process: object
    memory: object


def pack(info: LayerInfo, record: Record, blocks: BlockTable, table_length: int, table_digest: bytes) -> bytes:
    """The compressed index."""
    plain_info = {k: v for k, v in cast("dict[str, object]", to_plain(info)).items() if k not in _NOT_STORED}
    stored = _Stored(required=(), optional=(), blocks=blocks, table_length=table_length, table_digest=table_digest)
    plain = cast("dict[str, object]", to_plain(stored))
    memory, process = (record, None) if isinstance(record, RangeMemory) else (None, record)
    records = {"process": to_plain(process), "memory": to_plain(memory)}
    return zstd.compress(codec.pack({**plain, "info": plain_info, **records}))


def unpack(frame: bytes) -> Index:
    """Raises DecodeError if it is inconsistent in itself."""
    plain = codec.unpack(zstd.decompress(frame, layer.MAX_INDEX))
    stored = from_plain(_Stored, plain)
    fields = cast("dict[str, object]", plain)
    info = fields.get("info")
    if not isinstance(info, dict) or stored.table_length < 0:
        raise DecodeError("no info, or a page table of negative length")
    return Index(
        required=stored.required,
        blocks=_blocks(stored.blocks),
        table_length=stored.table_length,
        table_digest=stored.table_digest,
        info=cast("dict[str, object]", info),
        process=fields.get("process"),
        memory=fields.get("memory"),
    )


def info(index: Index, layer_id: int, digest: str, size: int) -> LayerInfo:
    """What is known about the layer. Raises DecodeError."""
    known = {field.name for field in dataclasses.fields(LayerInfo)} - _NOT_STORED
    stored = {name: value for name, value in index.info.items() if name in known}
    found = from_plain(LayerInfo, {**stored, "id": layer_id, "digest": digest, "bytes_written": size})
    if found.kind not in _KINDS:
        raise DecodeError(f"unknown kind {found.kind[:40]!r}")
    return found


def process(plain: object) -> Process:
    """The process record. Raises DecodeError."""
    return from_plain(Process, plain)


def memory(plain: object) -> RangeMemory:
    """The record of a checkpoint of ranges. Raises DecodeError."""
    return from_plain(RangeMemory, plain)


def _blocks(table: BlockTable) -> Blocks:
    if len(table.lengths) % 4 or len(table.pages) % 4:
        raise DecodeError("block table: not an array of u32")
    lengths, pages = np.frombuffer(table.lengths, dtype="<u4"), np.frombuffer(table.pages, dtype="<u4")
    if not len(lengths) == len(pages) == len(table.encodings) == len(table.digests) / DIGEST_SIZE:
        raise DecodeError("block table: columns of different length")
    if len(pages) and (int(pages.max()) > layer.MAX_PAGES_PER_BLOCK or int(pages.min()) == 0):
        raise DecodeError(f"block table: a block of {int(pages.max())} pages")
    if any(encoding not in (layer.RAW, layer.XOR) for encoding in set(table.encodings)):
        raise DecodeError("block table: unknown encoding")
    return Blocks(_sums(lengths, layer.HEADER.size), _sums(pages, 0), table.encodings, table.digests)


def _sums(values: npt.NDArray[np.uint32], start: int) -> npt.NDArray[np.int64]:
    return np.concatenate(([start], start + np.cumsum(values, dtype=np.int64))).astype(np.int64)
