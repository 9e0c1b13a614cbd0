# SPDX-License-Identifier: Apache-2.0
"""A checkpoint held in memory: state by the real capture, pages read one mapping after the other, no store, no tracker.

For tests of restore by itself. It satisfies ``restore.source.PageSource``.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from icecore.daemon.capture import capture_process
from icecore.daemon.tracker.giants import GIANT
from icecore.daemon.tracker.moment import Scanner, scanner_for
from icecore.inject import freeze
from icecore.kernel.pagemap import (
    PAGE_IS_FILE,
    PAGE_IS_GUARD,
    PAGE_IS_PFNZERO,
    PAGE_IS_PRESENT,
    PAGE_IS_SWAPPED,
    Pagemap,
    supported_categories,
)
from icecore.kernel.procfs import Vma, read_maps, read_resident_kb, read_vm_flags
from icecore.restore.source import Block
from icecore.storage.records import Process
from icecore.storage.runs import Runs, expand, normalise, split_blocks

PAGE = 4096
THERE = PAGE_IS_PRESENT | PAGE_IS_SWAPPED


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a restore needs."""

    process: Process
    data: Runs
    zero: Runs
    guard: Runs
    bytes: dict[int, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]
    """The bytes of each run of ``data``, by its first page."""

    def blocks(self, pages_per_block: int = 256) -> Iterator[Block]:
        """In address order."""
        for start, end in self.data.tolist():
            data = self.bytes[start]
            for first in range(0, end - start, pages_per_block):
                part = data[first : first + pages_per_block]
                yield np.arange(start + first, start + first + len(part), dtype=np.uint64), part


def take(pid: int, *, kill: bool = True) -> Snapshot:
    """Freeze, capture, read; then kill the process (its parent reaps it) or let it go on."""
    vm_flags = read_vm_flags(pid)
    with freeze(pid, deadline_seconds=60) as frozen:
        vmas = read_maps(pid)
        process = capture_process(frozen, vmas, vm_flags)
        pages = _read(pid, vmas)
        snapshot = Snapshot(process, *pages)
        if kill:
            frozen.kill()
    return snapshot


def _read(pid: int, vmas: Sequence[Vma]) -> tuple[Runs, Runs, Runs, dict[int, np.ndarray]]:
    data, zero, guard = list[tuple[int, int]](), list[tuple[int, int]](), list[tuple[int, int]]()
    with Pagemap(pid) as pagemap:
        for vma in vmas:
            if not vma.is_of_the_kernel and not _is_reserve(pid, vma):
                _classify(scanner_for(pagemap), vma, data, zero, guard)
    runs = normalise(data)
    memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    try:
        found = {start: _pages(memory, start, end) for start, end in runs.tolist()}
    finally:
        os.close(memory)
    return runs, normalise(zero), normalise(guard), found


def _is_reserve(pid: int, vma: Vma) -> bool:
    """Address space and nothing in it: its entries would take a minute to read where there is no PAGEMAP_SCAN."""
    return vma.end - vma.start > GIANT and read_resident_kb(pid).get((vma.start, vma.end)) == 0


def _classify(
    scanner: Scanner, vma: Vma, data: list[tuple[int, int]], zero: list[tuple[int, int]], guard: list[tuple[int, int]]
) -> None:
    wanted = THERE | PAGE_IS_FILE | PAGE_IS_PFNZERO | PAGE_IS_GUARD
    returned = wanted & supported_categories() if isinstance(scanner, Pagemap) else wanted
    if vma.is_shared_memory:  # the object may hold pages that no page table shows
        data.append((vma.start // PAGE, vma.end // PAGE))
        return
    for start, end, categories in scanner.scan_spans([(vma.start, vma.end)], anyof=THERE, returned=returned).tolist():
        run = (start // PAGE, end // PAGE)
        if categories & PAGE_IS_GUARD:
            guard.append(run)
        elif categories & PAGE_IS_PFNZERO:
            zero.append(run)
        elif not categories & PAGE_IS_FILE:
            data.append(run)


def _pages(memory: int, start: int, end: int) -> np.ndarray:
    raw = b"".join(os.pread(memory, count * PAGE, first * PAGE) for first, count in _parts(start, end))
    return np.frombuffer(raw, np.uint8).reshape(-1, PAGE)


def _parts(start: int, end: int) -> Iterator[tuple[int, int]]:
    for runs in split_blocks(normalise([(start, end)]), 4096):
        pages = expand(runs)
        yield int(pages[0]), len(pages)
