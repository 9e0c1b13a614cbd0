# SPDX-License-Identifier: Apache-2.0
"""The bytes of a new layer: header, blocks as they come, page table, index, trailer; linked when it is whole."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from icecore.storage import layer, layer_index, page_table
from icecore.storage.durable import UnnamedFile
from icecore.storage.encoder import Encoded
from icecore.storage.hashing import Hashes, digest
from icecore.storage.layer import LayerInfo
from icecore.storage.layer_index import BlockTable, Record
from icecore.storage.page_table import PageTable
from icecore.storage.runs import Pages

_HEADER: Final = layer.HEADER.pack(layer.MAGIC, layer.VERSION, 0)


class LayerFile:
    """A layer without a name yet. Methods raise OSError."""

    def __init__(self, directory: Path) -> None:
        self._file = UnnamedFile(directory)
        self._lengths: list[int] = []
        self._encodings = bytearray()
        self._digests = bytearray()
        self._pages: list[Pages] = []
        self._hashes: list[Hashes] = []
        try:
            self._file.write(_HEADER)
        except BaseException:  # nobody holds us yet who could close it
            self._file.close()
            raise

    def append(self, block: Encoded) -> None:
        """Write one block."""
        self._file.write(block.frame)
        self._lengths.append(len(block.frame))
        self._encodings.append(block.encoding)
        self._digests += block.digest
        self._pages.append(block.pages)
        self._hashes.append(block.hashes)

    def copies(self) -> tuple[Pages, Hashes]:
        """Every page in the blocks so far and its hash, in file order."""
        numbers = np.concatenate(self._pages) if self._pages else np.empty(0, dtype=np.uint64)
        hashes = np.concatenate(self._hashes) if self._hashes else np.empty((0, 2), dtype=np.uint64)
        return numbers, hashes

    def finish(self, name: str, info: LayerInfo, record: Record, table: PageTable) -> LayerInfo:
        """Write the rest, make it durable and link it."""
        frame = page_table.pack(table)
        self._file.write(frame)
        index = layer_index.pack(info, record, self._block_table(), len(frame), digest(frame))
        covered = layer.TRAILER.pack(self._file.size, len(index), b"", b"")[: layer.TRAILER_COVERED]
        identity = digest(_HEADER, index, covered)
        self._file.write(index)
        self._file.write(covered + identity + layer.END_MAGIC)
        self._file.link(name)
        return replace(info, digest=identity.hex(), bytes_written=self._file.size)

    def close(self) -> None:
        """Forget the file unless it was finished."""
        self._file.close()

    def _block_table(self) -> BlockTable:
        return BlockTable(
            lengths=np.array(self._lengths, dtype="<u4").tobytes(),
            pages=np.array([len(pages) for pages in self._pages], dtype="<u4").tobytes(),
            encodings=bytes(self._encodings),
            digests=bytes(self._digests),
        )
