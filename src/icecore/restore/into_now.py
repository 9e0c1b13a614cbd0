# SPDX-License-Identifier: Apache-2.0
"""The memory of a frozen process as it is now: which pages it has, and their bytes."""

import os
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from icecore.kernel.map_files import data_extents
from icecore.kernel.pagemap import (
    PAGE_IS_GUARD,
    PM_FILE,
    PM_GUARD_REGION,
    PM_PRESENT,
    PM_SWAP,
    Pagemap,
    supported_categories,
)
from icecore.kernel.procfs import Vma
from icecore.restore.runner import PAGE
from icecore.storage.records import Mapping
from icecore.storage.runs import Runs, contains, from_pages, normalise, union

PAGES_AT_ONCE = 1 << 18
"""Pagemap entries that are read in one go: 2 MiB of them."""


class Now:
    """Of the given mappings; holds /proc/PID/mem and pagemap."""

    def __init__(self, pid: int, mappings: Sequence[Mapping], vmas: Sequence[Vma]) -> None:
        self._pid = pid
        self._mappings = mappings
        self._vmas = vmas
        self._memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            with Pagemap(pid) as pagemap:
                self._populated, self._guards = self._look(pagemap)
        except BaseException:
            self.close()
            raise

    def populated(self) -> Runs:
        """Pages that have, or may have, content of their own: not of the file, and no holes."""
        return self._populated

    def guards(self) -> Runs | None:
        """Guard pages; None if this kernel does not tell."""
        return self._guards if supported_categories() & PAGE_IS_GUARD else None

    def read(self, pages: NDArray[np.uint64]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """The bytes of ``pages`` (ascending), and which of them could be read. Holes of memory read as zeros without
        being touched; what is protected is read nevertheless."""
        data = np.zeros((len(pages), PAGE), np.uint8)
        readable = np.ones(len(pages), np.bool_)
        for first, last in self._spans_to_read(pages):
            got = self._read_memory(int(pages[first]) * PAGE, data[first:last])
            readable[first + got : last] = False
        return data, readable

    def _spans_to_read(self, pages: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
        """Positions [first, last) of neighbouring pages."""
        where = np.flatnonzero(contains(self._populated, pages) | contains(self._file_backed(), pages))
        if len(where):
            breaks = np.flatnonzero((np.diff(where) != 1) | (np.diff(pages[where]) != 1)) + 1
            for part in np.split(where, breaks):
                yield int(part[0]), int(part[-1]) + 1

    def _file_backed(self) -> Runs:
        return normalise([(m.start // PAGE, m.end // PAGE) for m in self._mappings if m.kind == "file"])

    def _read_memory(self, address: int, room: NDArray[np.uint8]) -> int:
        """Pages read."""
        done = 0
        while done < len(room):
            try:
                got = os.preadv(self._memory, [room[done:].data], address + done * PAGE) // PAGE
            except OSError:
                got = 0
            if not got:
                break
            done += got
        return done

    def _look(self, pagemap: Pagemap) -> tuple[Runs, Runs]:
        populated, guards = normalise([]), normalise([])
        for mapping in self._mappings:
            for first in range(mapping.start, mapping.end, PAGES_AT_ONCE * PAGE):
                entries = pagemap.entries(first, min(first + PAGES_AT_ONCE * PAGE, mapping.end))
                guarded = _has(entries, PM_GUARD_REGION)
                own = _has(entries, PM_PRESENT | PM_SWAP) & ~guarded
                if mapping.kind == "file":
                    own &= ~_has(entries, PM_FILE)
                populated = union(populated, _pages(first, own))
                guards = union(guards, _pages(first, guarded))
            if mapping.kind == "shmem":
                populated = union(populated, self._of_the_object(mapping))
        return populated, guards

    def _of_the_object(self, mapping: Mapping) -> Runs:
        """Shared memory has pages that this process never touched; all of it, if we may not look at the object."""
        found: list[tuple[int, int]] = []
        for vma in self._vmas:
            start, end = max(vma.start, mapping.start), min(vma.end, mapping.end)
            if start < end:
                shift = vma.start - vma.offset
                try:
                    extents = data_extents(self._pid, (vma.start, vma.end), start - shift, end - shift)
                except PermissionError:
                    extents = [(start - shift, end - shift)]
                found += [((low + shift) // PAGE, -(-(high + shift) // PAGE)) for low, high in extents]
        return normalise(found)

    def close(self) -> None:
        """May be called twice."""
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1


def _has(entries: NDArray[np.uint64], bits: int) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (entries & np.uint64(bits)) != 0
    return found


def _pages(start: int, chosen: NDArray[np.bool_]) -> Runs:
    return from_pages(np.flatnonzero(chosen).astype(np.uint64) + np.uint64(start // PAGE))
