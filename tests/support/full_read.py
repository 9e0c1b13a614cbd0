# SPDX-License-Identifier: Apache-2.0
"""The memory of a frozen process, read in full without changing anything.

``support.memory`` reads for people; this reads for the torture, thousands of times: holes are not filled (reading them
through the process would), nothing is done page by page, and files that nobody changes are read once. Nothing of
icecore takes part.
"""

import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from support.memory import GUARD, PAGE, Area, Content, Pages, read_areas
from support.paged import NOTHING, Mask, Memory

PRESENT, SWAPPED, FILE = np.uint64(1 << 63), np.uint64(1 << 62), np.uint64(1 << 61)
MARKERS = np.uint64(8)
"""A swap entry with an offset below this is a marker (include/linux/swapops.h: uffd-wp 1, poisoned 2, guard 4): it
stands for no page. Bits 5 to 54 of a pagemap entry hold the offset, for root only: others see 0."""
OFFSET = np.uint64((1 << 50) - 1)
HUGETLB = "/anon_hugepage"
SETTLED = ("/usr/", "/lib")
"""Files below these do not change: of a private mapping of theirs the page cache's pages need not be read again."""
NEAR = 512 * PAGE
"""Mappings closer than this share one read of pagemap: what lies between them reads as empty."""

Entries = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class FullRead:
    """One moment of a process."""

    held: Memory
    """Every page that is present, or in swap, in private memory and in shared memory without a path; but for pages of
    settled files, of which the kernel says that they are the page cache's."""
    below: tuple[Memory, ...]
    """For each page of a private file mapping what it reads as when nobody has written it; what lies behind the file's
    end is left out."""
    mapped: Pages
    guards: Pages
    areas: tuple[Area, ...]

    def below_has(self, pages: Pages) -> Mask:
        """Which of ``pages`` show a file when nobody has written them."""
        found = np.zeros(len(pages), np.bool_)
        for part in self.below:
            found |= part.find(pages)[1]
        return found

    def below_equals(self, pages: Pages, content: Content) -> Mask:
        """Which of ``pages`` would show these bytes of a file."""
        same = np.zeros(len(pages), np.bool_)
        for part in self.below:
            same |= part.equal(pages, content)
        return same

    def name(self, page: int) -> str:
        """For messages."""
        for area in self.areas:
            if area.start <= page * PAGE < area.end:
                return f"{page * PAGE:#x} ({area.permissions} {area.path or 'anonymous'})"
        return f"{page * PAGE:#x} (not mapped)"


def read_everything(pid: int) -> FullRead:
    """The process must not run."""
    areas = read_areas(pid)
    ours = [area for area in areas if area.permissions[3] != "s" or area.is_shared_memory]
    pages, entries = _entries(pid, ours)
    guard = (entries & GUARD) != 0
    wanted = _has_page(entries) & ~guard
    private = wanted.copy()
    objects: list[tuple[Area, int, int]] = []
    end = 0
    for area in ours:
        begin, end = end, end + (area.end - area.start) // PAGE
        if area.is_shared_memory:  # by its object, whose holes stay holes when they are read
            private[begin:end] = False
            there = begin + min(end - begin, max(0, os.stat(_map_file(pid, area)).st_size - area.offset) // PAGE)
            wanted[begin:there], wanted[there:end] = ~guard[begin:there], False
            objects.append((area, begin, there))
        elif _is_settled(area):
            private[begin:end] = wanted[begin:end] = wanted[begin:end] & (entries[begin:end] & FILE == 0)
    rows = np.cumsum(wanted) - 1
    content = np.empty((int(np.count_nonzero(wanted)), PAGE), np.uint8)
    _fill(f"/proc/{pid}/mem", content, rows[private], pages[private])
    for area, begin, there in objects:
        chosen = begin + np.flatnonzero(wanted[begin:there])
        _fill(
            _map_file(pid, area), content, rows[chosen], pages[chosen] - np.uint64((area.start - area.offset) // PAGE)
        )
    files = [area for area in ours if area.inode and not area.is_shared_memory and not area.path.startswith(HUGETLB)]
    settled = _below(pid, tuple(area for area in files if _is_settled(area)))
    changing = _read_below(pid, [area for area in files if not _is_settled(area)])
    return FullRead(Memory(pages[wanted], content), (settled, changing), pages, pages[guard], areas)


def _is_settled(area: Area) -> bool:
    return area.permissions[3] == "p" and area.path.startswith(SETTLED)


def _entries(pid: int, areas: Sequence[Area]) -> tuple[Pages, Entries]:
    """Every page of the areas, and its entry in pagemap."""
    pages: list[Pages] = [np.empty(0, np.uint64)]
    entries: list[Entries] = [np.empty(0, np.uint64)]
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as file:
        for group in _near(areas):
            first = group[0].start // PAGE
            raw = _pread(file.fileno(), (group[-1].end // PAGE - first) * 8, first * 8)
            together = np.frombuffer(raw, np.uint64)
            for area in group:
                pages.append(np.arange(area.start // PAGE, area.end // PAGE, dtype=np.uint64))
                entries.append(together[area.start // PAGE - first : area.end // PAGE - first])
    return np.concatenate(pages), np.concatenate(entries)


def _near(areas: Sequence[Area]) -> Iterator[Sequence[Area]]:
    """Those that are close together."""
    cuts = [i for i in range(1, len(areas)) if areas[i].start - areas[i - 1].end > NEAR]
    return (areas[low:high] for low, high in pairwise([0, *cuts, len(areas)]) if low < high)


def _has_page(entries: Entries) -> Mask:
    swapped = (entries & SWAPPED != 0) & ((entries >> np.uint64(5)) & OFFSET >= MARKERS)
    found: Mask = (entries & PRESENT != 0) | swapped
    return found


def _fill(path: str, content: Content, rows: NDArray[np.intp], pages: Pages) -> None:
    """Read those pages of a file into those rows; a run of pages has a run of rows. A page that cannot be read is an
    error of this test."""
    if not len(pages):
        return
    borders = [0, *(np.flatnonzero(np.diff(pages) != 1) + 1).tolist(), len(pages)]
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for begin, end in pairwise(borders):
            room = content[rows[begin] : rows[begin] + end - begin].reshape(-1).data
            done = 0
            while done < len(room):
                got = os.preadv(fd, [room[done:]], int(pages[begin]) * PAGE + done)
                assert got, f"{path} ends before page {pages[begin]:#x}"
                done += got
    finally:
        os.close(fd)


def _map_file(pid: int, area: Area) -> str:
    """What an area shows, which may be deleted."""
    return f"/proc/{pid}/map_files/{area.start:x}-{area.end:x}"


@functools.lru_cache(maxsize=1)
def _below(pid: int, areas: tuple[Area, ...]) -> Memory:
    return _read_below(pid, areas)


def _read_below(pid: int, areas: Sequence[Area]) -> Memory:
    """The files' pages where the areas show them; pages behind a file's end are left out."""
    pages, content = [NOTHING.pages], [NOTHING.content]
    for area in areas:
        fd = os.open(_map_file(pid, area), os.O_RDONLY | os.O_CLOEXEC)
        try:
            raw = _pread(fd, area.end - area.start, area.offset)
        finally:
            os.close(fd)
        count = -(-len(raw) // PAGE)
        pages.append(np.arange(area.start // PAGE, area.start // PAGE + count, dtype=np.uint64))
        content.append(np.frombuffer(raw.ljust(count * PAGE, b"\0"), np.uint8).reshape(-1, PAGE))
    return Memory(np.concatenate(pages), np.concatenate(content))


def _pread(fd: int, size: int, offset: int) -> bytes:
    parts: list[bytes] = []
    while size > 0 and (got := os.pread(fd, size, offset)):
        parts.append(got)
        size, offset = size - len(got), offset + len(got)
    return b"".join(parts)
