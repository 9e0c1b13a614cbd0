# SPDX-License-Identifier: Apache-2.0
"""Memory as a dict from page number to 4096 bytes, and chains made of it."""

from collections.abc import Iterable, Mapping

import numpy as np

from icecore.storage import runs
from icecore.storage.chain import Chain
from icecore.storage.hashing import PageData
from icecore.storage.layer import LayerInfo
from icecore.storage.layer_writer import LayerWriter
from icecore.storage.reader import CheckpointReader
from icecore.storage.records import PAGE_SIZE
from icecore.storage.runs import Pages, Runs

Memory = dict[int, bytes]
ZERO_PAGE = bytes(PAGE_SIZE)


def page(seed: int) -> bytes:
    """A page that compresses badly, another one for each seed."""
    return np.random.default_rng(seed).bytes(PAGE_SIZE)


def poke(content: bytes, seed: int) -> bytes:
    """The same page with eight bytes changed."""
    offset = seed * 8 % PAGE_SIZE
    return content[:offset] + (seed + 1).to_bytes(8, "little") + content[offset + 8 :]


def numbers(pages: Iterable[int]) -> Pages:
    """Ascending page numbers."""
    return np.array(sorted(pages), dtype=np.uint64)


def to_runs(pages: Iterable[int]) -> Runs:
    """Runs of any page numbers."""
    return runs.from_pages(numbers(pages))


def rows(memory: Mapping[int, bytes], pages: Iterable[int]) -> PageData:
    """The bytes of some pages in ascending order."""
    data = b"".join(memory[number] for number in sorted(pages))
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, PAGE_SIZE)


def add(writer: LayerWriter, memory: Mapping[int, bytes], pages: Iterable[int]) -> int:
    """Add some pages of a memory."""
    chosen = sorted(pages)
    return writer.add(numbers(chosen), rows(memory, chosen))


def take(
    chain: Chain,
    memory: Mapping[int, bytes],
    dirty: Iterable[int] | None = None,
    *,
    zero: Iterable[int] = (),
    guard: Iterable[int] = (),
    keyframe: bool = False,
) -> LayerInfo:
    """A checkpoint of a memory of which ``dirty`` (by default everything) may have changed."""
    with chain.writer(force_keyframe=keyframe) as writer:
        add(writer, memory, memory if dirty is None else dirty)
        return writer.commit(None, to_runs(memory), to_runs(zero), to_runs(guard))


def content(reader: CheckpointReader) -> Memory:
    """Everything that a checkpoint holds, pages of zeros included."""
    found = {int(number): ZERO_PAGE for number in runs.expand(reader.zero)}
    for pages, data in reader.blocks():
        found |= {int(number): row.tobytes() for number, row in zip(pages, data, strict=True)}
    return found


def read(chain: Chain, layer_id: int | None = None) -> Memory:
    """The content of one checkpoint."""
    with chain.reader(layer_id) as reader:
        return content(reader)
