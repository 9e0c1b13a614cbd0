# SPDX-License-Identifier: Apache-2.0
"""docs/format.md is enough to read a store: a reader written from it alone, without icecore's code."""

import random
import struct
from pathlib import Path
from typing import cast

import blake3
import msgpack  # type: ignore[import-untyped]
import xxhash
import zstandard
from support.pages import ZERO_PAGE, Memory, add, page, poke, read, take, to_runs

from icecore.storage.chain import Chain
from icecore.storage.records import Mapping, RangeMemory

PAGE = 4096


def unzip(frame: bytes) -> dict[str, object]:
    """A zstd frame of one msgpack map."""
    decoded = cast(object, msgpack.unpackb(zstandard.decompress(frame)))  # pyright: ignore[reportUnknownMemberType]
    return cast("dict[str, object]", decoded)


def numbers(value: object) -> list[int]:
    data, total, result = cast(bytes, value), 0, list[int]()
    for (difference,) in struct.iter_unpack("<Q", data):
        total = (total + difference) % 2**64
        result.append(total)
    return result


def runs(value: object) -> set[int]:
    borders = numbers(value)
    assert borders == sorted(set(borders))
    return {number for start, end in zip(borders[::2], borders[1::2], strict=True) for number in range(start, end)}


def blake(*parts: bytes) -> bytes:
    return blake3.blake3(b"".join(parts)).digest()


class Layer:
    """Header, trailer and index of a layer file, and the pages in its blocks."""

    def __init__(self, path: Path) -> None:
        self.content = path.read_bytes()
        assert struct.unpack_from("<8sII", self.content) == (b"ICELAYER", 1, 0)
        trailer = self.content[-56:]
        offset, length, self.digest, magic = struct.unpack("<QQ32s8s", trailer)
        assert magic == b"ICELAEND"
        assert offset + length + 56 == len(self.content)
        index = self.content[offset : offset + length]
        assert blake(self.content[:16], index, trailer[:16]) == self.digest
        self.index = unzip(index)
        assert self.index["required"] == []
        table_length = cast(int, self.index["table_length"])
        frame = self.content[offset - table_length : offset]
        assert blake(frame) == self.index["table_digest"]
        self.table = unzip(frame)
        self.info = cast("dict[str, object]", self.index["info"])
        self.memory = cast("dict[str, object] | None", self.index["memory"])
        assert self.info["ranges"] is (self.memory is not None)

    def copies(self, parent: Memory) -> Memory:
        """The last copy of every page in the blocks."""
        blocks = cast("dict[str, bytes]", self.index["blocks"])
        lengths, counts = (struct.unpack(f"<{len(blocks[k]) // 4}I", blocks[k]) for k in ("lengths", "pages"))
        names, hashes = iter(numbers(self.table["numbers"])), cast(bytes, self.table["hashes"])
        found: Memory = {}
        offset, copy = 16, 0
        stored = runs(self.table["stored"])
        last = {number: position for position, number in enumerate(numbers(self.table["numbers"]))}
        for block, (length, count) in enumerate(zip(lengths, counts, strict=True)):
            frame = self.content[offset : offset + length]
            assert blake(frame) == blocks["digests"][32 * block : 32 * block + 32]
            data = zstandard.decompress(frame)
            assert len(data) == PAGE * count
            for row in range(count):
                number, content = next(names), data[PAGE * row : PAGE * (row + 1)]
                if blocks["encodings"][block] == 1:
                    content = bytes(a ^ b for a, b in zip(content, parent.get(number, ZERO_PAGE), strict=True))
                if number in stored and last[number] == copy:
                    assert xxhash.xxh3_128_digest(content) == hashes[16 * copy : 16 * copy + 16]
                    found[number] = content
                copy += 1
            offset += length
        assert found.keys() == stored
        return found


def replay(directory: Path, layer_id: int) -> tuple[Memory, set[int], set[int]]:
    """Pages with bytes, zero pages, guard pages."""
    memory: Memory = {}
    zero, guard, digest = set[int](), set[int](), b""
    for number in range(1, layer_id + 1):
        layer = Layer(directory / f"{number:08d}.layer")
        assert layer.info["parent"] == digest.hex()
        found = layer.copies(memory)
        memory = {page: memory[page] for page in runs(layer.table["parent"])} | found
        zero, guard, digest = runs(layer.table["zero"]), runs(layer.table["guard"]), layer.digest
    return memory, zero, guard


def test_an_independent_reader(chain: Chain) -> None:
    dice = random.Random(3)
    memory = {number: page(number) for number in range(300)}
    for step in range(4):
        for number in dice.sample(sorted(memory), 40):
            memory[number] = dice.choice([poke(memory[number], step), page(number + 999 * step), ZERO_PAGE])
        del memory[dice.choice(sorted(memory))]
        memory[500 + step] = page(500 + step)
        take(chain, memory, zero=[900 + step], guard=[1000 + step])
    for layer_id in range(1, 5):
        data, zero, guard = replay(chain.directory, layer_id)
        assert data | dict.fromkeys(zero, ZERO_PAGE) == read(chain, layer_id)
        assert guard == {1000 + layer_id - 1}


def test_whose_memory_it_is(chain: Chain) -> None:
    heap = Mapping(start=0x5000, end=0x8000, prot=3, shared=False, kind="anon", path="[heap]")
    asked = RangeMemory(pid=42, start_time=7, comm="job", asked=("heap",), ranges=((0x5000, 0x8000),), mappings=(heap,))
    with chain.writer() as writer:
        add(writer, {6: page(6)}, [6])
        writer.commit(asked, to_runs([6]))
    layer = Layer(chain.directory / "00000001.layer")
    assert layer.index["process"] is None
    assert (layer.info["pid"], layer.info["start_time"], layer.info["comm"]) == (42, 7, "job")
    assert layer.memory is not None
    assert [layer.memory[k] for k in ("pid", "start_time", "comm", "asked", "ranges")] == [
        42, 7, "job", ["heap"], [[0x5000, 0x8000]]
    ]  # fmt: skip
    (mapping,) = cast("list[dict[str, object]]", layer.memory["mappings"])
    assert [mapping[k] for k in ("start", "end", "prot", "shared", "kind", "path")] == [
        0x5000, 0x8000, 3, False, "anon", "[heap]"
    ]  # fmt: skip
