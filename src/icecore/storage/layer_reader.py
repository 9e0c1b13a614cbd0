# SPDX-License-Identifier: Apache-2.0
"""One layer file, opened for reading and trusted in nothing: every size is checked, every byte is under a digest.

Opening verifies header, index and trailer; a block or the page table is verified when it is read.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt

from icecore.errors import CannotRestore, NoSuchCheckpoint, StoreCorrupt, StoreUnusable
from icecore.storage import layer, layer_index, page_table, zstd
from icecore.storage.codec import DecodeError
from icecore.storage.durable import store_errors
from icecore.storage.hashing import Hashes, PageData, digest
from icecore.storage.layer_index import Blocks
from icecore.storage.page_table import PageTable
from icecore.storage.records import PAGE_SIZE, Process, RangeMemory
from icecore.storage.runs import Pages

Decoded = TypeVar("Decoded")
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LiveBlock:
    """The pages of one block that count."""

    number: int
    rows: Rows
    """Their rows in the block."""
    pages: Pages
    hashes: Hashes


class LayerReader:
    """Owns the fd of one layer file. Errors name chain, layer and offset."""

    def __init__(self, path: Path, chain: str, layer_id: int) -> None:
        """Raises NoSuchCheckpoint, StoreCorrupt and StoreUnusable."""
        self.chain, self.id = chain, layer_id
        self._fd = self._open(path)
        try:
            self._index_offset, self._index_bytes, self.digest = self._read_index()
            self._index = self._decode(self._index_offset, "index", lambda: layer_index.unpack(self._index_bytes))
            self.info = layer_index.info(self._index, layer_id, self.digest, self._size)
            self.blocks: Blocks = self._index.blocks
            self._check_extents()
        except BaseException:
            self.close()
            raise

    @cached_property
    def table(self) -> PageTable:
        """Which pages exist and where."""
        offset, length = self.blocks.end, self._index.table_length
        frame = self._read(offset, length)
        if digest(frame) != self._index.table_digest:
            raise self.corrupt(offset, "the page table is damaged")
        return self._decode(offset, "page table", lambda: page_table.unpack(frame, self.blocks.copies))

    def process(self) -> Process:
        """The process record. Raises CannotRestore if the layer has none."""
        if self._index.process is None:
            raise CannotRestore(
                f"checkpoint {self.chain}@{self.id} holds memory only, no process",
                "restore it into a process that runs (--into PID --ranges), or restore another one",
            )
        plain = self._index.process
        return self._decode(self._index_offset, "process record", lambda: layer_index.process(plain))

    def memory(self) -> RangeMemory | None:
        """Which ranges of which process it holds; None if it holds a whole one, or pages alone."""
        if self._index.memory is None:
            return None
        plain = self._index.memory
        return self._decode(self._index_offset, "record of the ranges", lambda: layer_index.memory(plain))

    def live_blocks(self) -> Iterator[LiveBlock]:
        """Every block that has pages that count, in file order."""
        live = np.sort(self.table.live)
        borders = np.searchsorted(live, self.blocks.first_copy).tolist()
        for number, (low, high) in enumerate(pairwise(borders)):
            if low < high:
                copies = live[low:high]
                rows = copies - self.blocks.first_copy[number]
                yield LiveBlock(number, rows, self.table.numbers[copies], self.table.hashes[copies])

    def decode(self, block: int) -> PageData:
        """All pages of a block as they are encoded: XOR-ed ones still are. Safe in several threads."""
        offset, length, pages = self.blocks.extent(block)
        frame = self._read(offset, length)
        if digest(frame) != self.blocks.digest(block):
            raise self.corrupt(offset, f"block {block} is damaged")
        data = self._decode(offset, f"block {block}", lambda: zstd.decompress(frame, pages * PAGE_SIZE))
        if len(data) != pages * PAGE_SIZE:
            raise self.corrupt(offset, f"block {block} holds {len(data)} bytes where {pages * PAGE_SIZE} are expected")
        return np.frombuffer(data, dtype=np.uint8).reshape(pages, PAGE_SIZE)

    def corrupt(self, offset: int, what: str) -> StoreCorrupt:
        """The error that names the place."""
        message = f"chain {self.chain}, layer {self.id:08d}, offset {offset:#x}: {what}"
        earlier = f"restore an earlier one (icecore restore {self.chain}@{self.id - 1})" if self.id > 1 else ""
        return StoreCorrupt(message, earlier or "no earlier checkpoint is left: checkpoint the process again")

    def _open(self, path: Path) -> int:
        with store_errors(path):
            try:
                return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                raise NoSuchCheckpoint(
                    f"chain {self.chain} has no checkpoint {self.id}", f"icecore log {self.chain} lists them"
                ) from None

    def _read_index(self) -> tuple[int, bytes, str]:
        """Offset and bytes of the index, and the digest of the layer, after checking everything they depend on."""
        self._size = os.fstat(self._fd).st_size
        header = self._read_header()
        start = self._size - layer.TRAILER.size
        if start < layer.HEADER.size:
            raise self.corrupt(self._size, "the file is cut off")
        trailer = self._read(start, layer.TRAILER.size)
        offset, length, expected, magic = layer.TRAILER.unpack(trailer)
        if magic != layer.END_MAGIC or offset < layer.HEADER.size or offset + length != start:
            raise self.corrupt(start, "no trailer here: the file is cut off, or something follows the layer")
        index = self._read(offset, length)
        if digest(header, index, trailer[: layer.TRAILER_COVERED]) != expected:
            raise self.corrupt(offset, "header, index or trailer is damaged")
        return offset, index, expected.hex()

    def _read_header(self) -> bytes:
        header = self._read(0, layer.HEADER.size)
        magic, version, _zero = layer.HEADER.unpack(header)
        if magic != layer.MAGIC:
            raise self.corrupt(0, "this is not a layer")
        if version != layer.VERSION:
            raise self._too_new(f"has format version {version}; this icecore reads {layer.VERSION}")
        return header

    def _check_extents(self) -> None:
        """Blocks, page table and index leave no gap: there is no byte that no digest covers."""
        unknown = sorted(set(self._index.required) - layer.FEATURES)
        if unknown:
            raise self._too_new(f"needs features that this icecore lacks: {', '.join(unknown)}")
        if self.blocks.end + self._index.table_length != self._index_offset:
            raise self.corrupt(self._index_offset, "the blocks do not end where the index begins")

    def _too_new(self, what: str) -> StoreUnusable:
        message = f"chain {self.chain}, layer {self.id:08d} {what}"
        return StoreUnusable(message, "use the icecore release that wrote it, or a newer one")

    def _read(self, offset: int, length: int) -> bytes:
        if length > self._size - offset:
            raise self.corrupt(offset, f"{length} bytes expected, the file is cut off")
        try:
            data = os.pread(self._fd, length, offset)
        except OSError as error:
            raise self.corrupt(offset, f"cannot be read: {error.strerror}") from error
        if len(data) != length:
            raise self.corrupt(offset, f"{length} bytes expected, {len(data)} found")
        return data

    def _decode(self, offset: int, what: str, decoder: Callable[[], Decoded]) -> Decoded:
        try:
            return decoder()
        except DecodeError as error:
            raise self.corrupt(offset, f"{what}: {error}") from None

    def close(self) -> None:
        """May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
