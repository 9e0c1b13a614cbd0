# SPDX-License-Identifier: Apache-2.0
"""An independent reading of a process's memory, and its comparison with a checkpoint, page by page.

Nothing of icecore takes part in the reading: /proc/PID/maps, /proc/PID/pagemap and /proc/PID/mem, nothing else.
"""

import os
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

PAGE = 4096
PRESENT_OR_SWAPPED = np.uint64(3 << 62)
"""Bits 63 and 62 of a pagemap entry (Documentation/admin-guide/mm/pagemap.rst)."""
GUARD = np.uint64(1 << 58)
KERNEL_OWNED = ("[vvar", "[vdso]", "[vsyscall]", "[uprobes]")
BLOCK_PAGES = 256

Pages = NDArray[np.uint64]
Content = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Area:
    """One line of /proc/PID/maps."""

    start: int
    end: int
    permissions: str
    offset: int
    inode: int
    path: str

    @property
    def is_shared_memory(self) -> bool:
        return self.permissions[3] == "s" and (self.path.startswith(("/dev/zero", "/memfd:")) or not self.inode)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a process held at one moment."""

    areas: tuple[Area, ...]
    pages: Pages
    """Numbers of the pages that could be read, ascending."""
    content: Content
    guards: Pages
    from_file: NDArray[np.bool_]
    """For each page of ``pages``: it lies in a private mapping of a file and equals the file."""
    unsure: Pages
    """Pages of which nothing is known, since they changed meanwhile."""


def read_areas(pid: int) -> tuple[Area, ...]:
    """Every mapping of a process that is not the kernel's own."""
    areas: list[Area] = []
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            borders, permissions, offset, _, inode, *path = line.rstrip("\n").split(maxsplit=5)
            start, end = (int(border, 16) for border in borders.split("-"))
            area = Area(start, end, permissions, int(offset, 16), int(inode), path[0] if path else "")
            if not area.path.startswith(KERNEL_OWNED):
                areas.append(area)
    return tuple(areas)


def take_snapshot(pid: int) -> Snapshot:
    """Read all memory of a process that does not run, or that does not write."""
    areas = read_areas(pid)
    page_lists: list[Pages] = [np.empty(0, np.uint64)]
    contents: list[Content] = [np.empty((0, PAGE), np.uint8)]
    guards: list[Pages] = [np.empty(0, np.uint64)]
    same: list[NDArray[np.bool_]] = [np.empty(0, np.bool_)]
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory, open(f"/proc/{pid}/pagemap", "rb", buffering=0) as map_:
        for area in areas:
            wanted, guarded = _pages_to_read(area, map_.fileno())
            pages, content = _read_pages(memory.fileno(), wanted)
            page_lists.append(pages)
            contents.append(content)
            guards.append(guarded)
            same.append(_equals_file(area, pages, content))
    pages, content = np.concatenate(page_lists), np.concatenate(contents)
    return Snapshot(areas, pages, content, np.concatenate(guards), np.concatenate(same), np.empty(0, np.uint64))


def _pages_to_read(area: Area, pagemap: int) -> tuple[Pages, Pages]:
    """Populated pages (of shared memory: all, since another mapping may have filled it), and guard pages."""
    first, count = area.start // PAGE, (area.end - area.start) // PAGE
    entries = np.frombuffer(_pread_all(pagemap, count * 8, first * 8), np.uint64)
    numbers = np.arange(first, first + count, dtype=np.uint64)
    guard = (entries & GUARD) != 0
    wanted = (entries & PRESENT_OR_SWAPPED) != 0
    if area.is_shared_memory:
        wanted[:] = True
    return numbers[wanted & ~guard], numbers[guard]


def _pread_all(fd: int, size: int, offset: int) -> bytes:
    parts: list[bytes] = []
    while size > 0 and (got := os.pread(fd, min(size, 1 << 20), offset)):
        parts.append(got)
        size, offset = size - len(got), offset + len(got)
    return b"".join(parts)


def _read_pages(memory: int, pages: Pages) -> tuple[Pages, Content]:
    """Their content by runs; pages beyond the end of a file, and holes that only hold a marker, are left out."""
    if not len(pages):
        return pages, np.empty((0, PAGE), np.uint8)
    content = np.zeros((len(pages), PAGE), np.uint8)
    readable = np.ones(len(pages), np.bool_)
    borders = [0, *(np.flatnonzero(np.diff(pages) != 1) + 1).tolist(), len(pages)]
    for begin, end in pairwise(borders):
        for at in range(begin, end, BLOCK_PAGES):
            _read_block(memory, pages[at : min(at + BLOCK_PAGES, end)], content[at : at + BLOCK_PAGES], readable[at:])
    return pages[readable], content[readable]


def _read_block(memory: int, pages: Pages, content: Content, readable: NDArray[np.bool_]) -> None:
    done = 0
    while done < len(pages):
        try:
            got = os.preadv(memory, [content[done : len(pages)].data.cast("B")], int(pages[done]) * PAGE) // PAGE
        except OSError:
            got = 0
        if not got:
            readable[done] = False
        done += max(got, 1)


def _equals_file(area: Area, pages: Pages, content: Content) -> NDArray[np.bool_]:
    same = np.zeros(len(pages), np.bool_)
    if not area.inode or area.is_shared_memory or not len(pages):
        return same
    with open(area.path, "rb") as file:
        for index, page in enumerate(pages.tolist()):
            file.seek(area.offset + page * PAGE - area.start)
            same[index] = content[index].tobytes() == file.read(PAGE).ljust(PAGE, b"\0")
    return same
