# SPDX-License-Identifier: Apache-2.0
"""Layers altered by somebody who knows the format: every digest is right again."""

import struct
from pathlib import Path
from typing import cast

from icecore.storage import codec, layer, zstd
from icecore.storage.hashing import digest


class Sealed:
    """A layer taken apart; ``write`` puts it together from what the parts have become."""

    def __init__(self, path: Path) -> None:
        self.path = path
        content = path.read_bytes()
        offset, length = struct.unpack("<QQ", content[-layer.TRAILER.size :][:16])
        self.index = as_map(codec.unpack(zstd.decompress(content[offset : offset + length], layer.MAX_INDEX)))
        table_length = cast(int, self.index["table_length"])
        self.header, self.blocks = content[:16], content[16 : offset - table_length]
        self.table = as_map(codec.unpack(zstd.decompress(content[offset - table_length : offset], 1 << 30)))
        self.lies: dict[str, object] = {}
        """What the index says instead of the truth."""

    def write(self) -> None:
        table = zstd.compress(codec.pack(self.table))
        honest: dict[str, object] = {"table_length": len(table), "table_digest": digest(table)}
        index = zstd.compress(codec.pack(self.index | honest | self.lies))
        covered = struct.pack("<QQ", 16 + len(self.blocks) + len(table), len(index))
        seal = digest(self.header, index, covered)
        self.path.write_bytes(self.header + self.blocks + table + index + covered + seal + layer.END_MAGIC)


def reseal(path: Path, **fields: object) -> None:
    """Give the index of a layer other fields."""
    parts = Sealed(path)
    parts.lies.update(fields)
    parts.write()


def as_map(value: object) -> dict[str, object]:
    """A decoded map."""
    assert isinstance(value, dict)
    return cast("dict[str, object]", value)
