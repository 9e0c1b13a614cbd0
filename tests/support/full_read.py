# SPDX-License-Identifier: Apache-2.0
"""The memory of a frozen process, read in full without changing anything, and what a checkpoint makes of it.

``support.memory`` reads for people; this reads for the torture, thousands of times: holes are not filled (reading them
through the process would), and nothing is done page by page. Nothing of icecore takes part.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from support.memory import GUARD, PAGE, Area, Content, Pages, read_areas

PRESENT, SWAPPED = np.uint64(1 << 63), np.uint64(1 << 62)
MARKERS = np.uint64(8)
"""A swap entry with an offset below this is a marker (include/linux/swapops.h: uffd-wp 1, poisoned 2, guard 4): it
stands for no page. Bits 5 to 54 of a pagemap entry hold the offset, for root only: others see 0."""
OFFSET = np.uint64((1 << 50) - 1)
HUGETLB = "/anon_hugepage"

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Memory:
    """Pages by number, ascending, and their bytes."""

    pages: Pages
    content: Content

    def find(self, pages: Pages) -> tuple[NDArray[np.intp], Mask]:
        """For each of ``pages`` its row, and whether it is here at all."""
        rows = np.searchsorted(self.pages, pages)
        rows[rows == len(self.pages)] = 0
        found: Mask = self.pages[rows] == pages if len(self.pages) else np.zeros(len(pages), np.bool_)
        return rows, found

    def equal(self, pages: Pages, content: Content) -> Mask:
        """For each of ``pages`` whether it is here with those bytes."""
        rows, same = self.find(pages)
        same[same] = (self.content[rows[same]] == content[same]).all(axis=1)
        return same


@dataclass(frozen=True, slots=True)
class FullRead:
    """One moment of a process."""

    held: Memory
    """Every page that is present, or in swap, in private memory and in shared memory without a path."""
    below: Memory
    """For each page of every mapping of interest that does not read as zero when nobody has written it: those bytes."""
    mapped: Pages
    guards: Pages
    areas: tuple[Area, ...]

    def name(self, page: int) -> str:
        """For messages."""
        for area in self.areas:
            if area.start <= page * PAGE < area.end:
                return f"{page * PAGE:#x} ({area.permissions} {area.path or 'anonymous'})"
        return f"{page * PAGE:#x} (not mapped)"


@dataclass(slots=True)
class _Parts:
    pages: list[Pages]
    content: list[Content]

    def add(self, pages: Pages, content: Content) -> None:
        self.pages.append(pages)
        self.content.append(content)

    def joined(self) -> Memory:
        if not self.pages:
            return NOTHING
        return Memory(np.concatenate(self.pages), np.concatenate(self.content))


NOTHING = Memory(np.empty(0, np.uint64), np.empty((0, PAGE), np.uint8))


def read_everything(pid: int) -> FullRead:
    """The process must not run."""
    held, below = _Parts([], []), _Parts([], [])
    mapped: list[Pages] = [np.empty(0, np.uint64)]
    guards: list[Pages] = [np.empty(0, np.uint64)]
    areas = read_areas(pid)
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory, open(f"/proc/{pid}/pagemap", "rb", buffering=0) as map_:
        for area in areas:
            if area.permissions[3] == "s" and not area.is_shared_memory:
                continue
            pages = np.arange(area.start // PAGE, area.end // PAGE, dtype=np.uint64)
            entries = np.frombuffer(_pread(map_.fileno(), len(pages) * 8, area.start // PAGE * 8), np.uint64)
            guard = (entries & GUARD) != 0
            mapped.append(pages)
            guards.append(pages[guard])
            if area.is_shared_memory:
                _add_object(held, _file_pages(pid, area), ~guard)
                continue
            _add_pages(held, memory.fileno(), pages[_has_page(entries) & ~guard])
            if area.inode and not area.path.startswith(HUGETLB):
                below.add(*_file_pages(pid, area))
    return FullRead(held.joined(), below.joined(), np.concatenate(mapped), np.concatenate(guards), areas)


def _has_page(entries: NDArray[np.uint64]) -> Mask:
    swapped = (entries & SWAPPED != 0) & ((entries >> np.uint64(5)) & OFFSET >= MARKERS)
    found: Mask = (entries & PRESENT != 0) | swapped
    return found


def _add_object(held: _Parts, object_pages: tuple[Pages, Content], wanted: Mask) -> None:
    """Shared memory by its object, whose holes stay holes when they are read."""
    pages, content = object_pages
    wanted = wanted[: len(pages)]
    held.add(pages[wanted], content[wanted])


def _add_pages(held: _Parts, memory: int, pages: Pages) -> None:
    if not len(pages):
        return
    content = np.empty((len(pages), PAGE), np.uint8)
    borders = [0, *(np.flatnonzero(np.diff(pages) != 1) + 1).tolist(), len(pages)]
    for begin, end in pairwise(borders):
        room = content[begin:end].reshape(-1).data
        at, done = int(pages[begin]) * PAGE, 0
        while done < len(room):  # a page that is present can be read; anything else is an error of this test
            done += os.preadv(memory, [room[done:]], at + done)
    held.add(pages, content)


def _file_pages(pid: int, area: Area) -> tuple[Pages, Content]:
    """What an area shows of its file, which may be deleted; pages behind the file's end are left out."""
    fd = os.open(f"/proc/{pid}/map_files/{area.start:x}-{area.end:x}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        raw = _pread(fd, area.end - area.start, area.offset)
    finally:
        os.close(fd)
    count = -(-len(raw) // PAGE)
    pages = np.arange(area.start // PAGE, area.start // PAGE + count, dtype=np.uint64)
    return pages, np.frombuffer(raw.ljust(count * PAGE, b"\0"), np.uint8).reshape(-1, PAGE)


def _pread(fd: int, size: int, offset: int) -> bytes:
    parts: list[bytes] = []
    while size > 0 and (got := os.pread(fd, size, offset)):
        parts.append(got)
        size, offset = size - len(got), offset + len(got)
    return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a chain says of one moment."""

    data: Memory
    zero: Pages
    guards: Pages


def missed(truth: FullRead, kept: Kept) -> Iterator[str]:
    """Each page that a restore of ``kept`` would get wrong."""
    rows, found = kept.data.find(truth.held.pages)
    wrong = np.zeros(len(rows), np.bool_)
    wrong[found] = (kept.data.content[rows[found]] != truth.held.content[found]).any(axis=1)
    yield from (f"{truth.name(p)} holds other bytes" for p in truth.held.pages[wrong].tolist())
    absent = truth.held.pages[~found]
    as_it_was = _unwritten(truth, absent, kept.zero, truth.held.content[~found])
    yield from (f"{truth.name(p)} has data, the checkpoint none" for p in absent[~as_it_was].tolist())
    extra = ~truth.held.find(kept.data.pages)[1]
    pages = kept.data.pages[extra]
    as_it_was = _unwritten(truth, pages, np.empty(0, np.uint64), kept.data.content[extra])
    as_it_was &= np.isin(pages, truth.mapped) & ~np.isin(pages, truth.guards)
    yield from (f"{truth.name(p)} was discarded, the checkpoint has data" for p in pages[~as_it_was].tolist())
    zero = kept.zero[~truth.held.find(kept.zero)[1]]
    bad = ~np.isin(zero, truth.mapped) | truth.below.find(zero)[1]
    yield from (f"{truth.name(p)} is listed as zero" for p in zero[bad].tolist())
    yield from (f"{truth.name(p)}: guard or not" for p in np.setxor1d(truth.guards, kept.guards).tolist())


def _unwritten(truth: FullRead, pages: Pages, zero: Pages, content: Content) -> Mask:
    """Whether ``content`` is what the pages read as that nobody has written, or that are listed as ``zero``."""
    as_below = truth.below.equal(pages, content)
    blank = ~truth.below.find(pages)[1] | np.isin(pages, zero)
    found: Mask = np.where(blank, ~content.any(axis=1), as_below)
    return found
