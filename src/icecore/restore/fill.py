# SPDX-License-Identifier: Apache-2.0
"""The bytes: from the checkpoint's blocks into the mappings, reading and hashing beside writing."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from icecore.errors import CannotRestore
from icecore.kernel import process_vm
from icecore.restore.memory import MEMORY_KINDS, is_droppable
from icecore.restore.runner import PAGE
from icecore.restore.source import Block, PageSource
from icecore.storage.records import Mapping
from icecore.storage.runs import Runs, contains, count, expand, intersect, normalise, split_blocks

WRITERS = 2
AHEAD = 6
"""Blocks read but not yet written: bounds the memory."""
PAGES_PER_BLOCK = 512


def to_fill(reader: PageSource, mappings: Sequence[Mapping]) -> set[int]:
    """The start of every mapping that gets bytes."""
    files = [m for m in mappings if m.kind == "file"]
    return _touched(reader.data, [m for m in mappings if _has_content(m)]) | _touched(reader.zero, files)


def _has_content(mapping: Mapping) -> bool:
    return mapping.kind in MEMORY_KINDS and not is_droppable(mapping)


def _touched(runs: Runs, mappings: Sequence[Mapping]) -> set[int]:
    """Starts of the mappings that overlap with the runs."""
    starts = np.array([m.start // PAGE for m in mappings], np.uint64)
    ends = np.array([m.end // PAGE for m in mappings], np.uint64)
    first = np.searchsorted(runs[:, 1], starts, "right")
    padded = np.append(runs[:, 0], np.uint64((1 << 64) - 1))
    return {int(start) * PAGE for start in starts[padded[first] < ends]}


def _pages_of(mappings: Iterable[Mapping]) -> Runs:
    return normalise([(m.start // PAGE, m.end // PAGE) for m in mappings])


def fill(pid: int, reader: PageSource, mappings: Sequence[Mapping]) -> None:
    """Write all pages with bytes, and zeros over the pages of private file mappings that had become zero."""
    with ThreadPoolExecutor(WRITERS, "icecore-fill") as pool:
        pending: deque[Future[None]] = deque()
        for pages, data in _blocks(reader, mappings):
            pending.append(pool.submit(_write, pid, pages, data))
            if len(pending) > AHEAD:
                pending.popleft().result()
        for written in pending:
            written.result()


def _blocks(reader: PageSource, mappings: Sequence[Mapping]) -> Iterator[Block]:
    yield from _of_memory(reader, mappings)
    zero = intersect(reader.zero, _pages_of(m for m in mappings if m.kind == "file"))
    for runs in split_blocks(zero, PAGES_PER_BLOCK):
        pages = expand(runs)
        yield pages, np.zeros((len(pages), PAGE), np.uint8)


def _of_memory(reader: PageSource, mappings: Sequence[Mapping]) -> Iterator[Block]:
    """The reader's blocks without pages of the vdso (an injection into the target may have made those its own) and of
    what may be dropped."""
    fillable = _pages_of(m for m in mappings if _has_content(m))
    blocks = reader.blocks(PAGES_PER_BLOCK)
    if count(intersect(reader.data, fillable)) == count(reader.data):
        yield from blocks
        return
    for pages, data in blocks:
        wanted = contains(fillable, pages)
        if wanted.any():
            yield pages[wanted], data[wanted]


def _write(pid: int, pages: NDArray[np.uint64], data: NDArray[np.uint8]) -> None:
    breaks = np.flatnonzero(np.diff(pages) != 1) + 1
    first = np.concatenate(([0], breaks))
    lengths = np.diff(np.append(first, len(pages))).astype(np.uint64) * PAGE
    written = process_vm.writev(pid, data.reshape(-1), pages[first] * np.uint64(PAGE), lengths)
    if written != data.nbytes:
        bad = int(pages[written // PAGE]) * PAGE
        raise CannotRestore(f"cannot write the page at {bad:#x} of process {pid}: it is in no writable mapping")
