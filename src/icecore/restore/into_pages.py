# SPDX-License-Identifier: Apache-2.0
"""A checkpoint's pages over those of a frozen process: compare everything, then write what differs, or undo."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from icecore.errors import CannotRestore
from icecore.kernel import process_vm
from icecore.kernel.mman import PROT_WRITE
from icecore.kernel.procfs import Vma
from icecore.restore.into_match import refused
from icecore.restore.into_now import Now
from icecore.restore.runner import PAGE
from icecore.restore.source import Block, RangeSource
from icecore.storage.records import Mapping
from icecore.storage.runs import (
    EMPTY,
    Runs,
    contains,
    count,
    expand,
    from_pages,
    intersect,
    normalise,
    split_blocks,
    subtract,
    union,
)

PAGES_PER_BLOCK = 512
IN_MEMORY = 64 << 20
"""Bytes of old pages that are kept in memory; more go to an unnamed file."""


class Overlay:
    """Of the chosen mappings of one checkpoint and one process."""

    def __init__(self, pid: int, reader: RangeSource, wanted: Sequence[Mapping], vmas: Sequence[Vma]) -> None:
        self._pid = pid
        self._reader = reader
        self._wanted = wanted
        self._writable = _runs((vma.start, vma.end) for vma in vmas if vma.prot & PROT_WRITE)
        self._scope = _runs((m.start, m.end) for m in wanted)
        self._files = [m for m in wanted if m.kind == "file"]
        self._data = intersect(reader.data, self._scope)
        self._now = Now(pid, wanted, vmas)
        self._old = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 (closed by __exit__)
        self._different: Runs = EMPTY

    @property
    def differing(self) -> int:
        """Pages to be written, or written."""
        return count(self._different)

    def compare(self) -> None:
        """Find the pages that differ and keep their bytes. CannotRestore: one of them cannot be read or written."""
        self._require_same_guards()
        parts = [self._keep_old(pages, data) for pages, data in self._blocks(self._may_differ())]
        self._different = from_pages(np.concatenate(parts)) if parts else EMPTY
        if len(locked := subtract(self._different, self._writable)):
            self._refuse(locked, "differs, and is not writable")

    def write(self) -> None:
        """All pages that differ; if one cannot be written, all are as they were before."""
        done: list[NDArray[np.uint64]] = []
        try:
            for pages, data in self._blocks(self._different):
                done.append(pages)
                self._put(pages, data)
        except BaseException:
            self._undo(done)
            raise

    def _may_differ(self) -> Runs:
        """Pages with bytes then; pages with content now; zero pages over a file. Other pages are holes now and then."""
        files = _runs((m.start, m.end) for m in self._files)
        then = union(self._data, intersect(self._reader.zero, files))
        return union(then, subtract(self._now.populated(), self._reader.guard))

    def _keep_old(self, pages: NDArray[np.uint64], data: NDArray[np.uint8]) -> NDArray[np.uint64]:
        """Those of the pages that differ."""
        now, readable = self._now.read(pages)
        if not readable.all():
            self._refuse(from_pages(pages[~readable]), "cannot be read")
        rows: NDArray[np.bool_] = (now != data).any(axis=1)
        self._old.write(now[rows].tobytes())
        different: NDArray[np.uint64] = pages[rows]
        return different

    def _blocks(self, wanted: Runs) -> Iterator[Block]:
        """The pages as they should be, in address order."""
        for runs in split_blocks(wanted, PAGES_PER_BLOCK):
            pages = expand(runs)
            held = contains(self._data, pages)
            data = np.zeros((len(pages), PAGE), np.uint8)
            if held.any():
                data[held] = self._reader.read(from_pages(pages[held]))
            self._fill_from_files(pages, held, data)
            yield pages, data

    def _fill_from_files(self, pages: NDArray[np.uint64], held: NDArray[np.bool_], data: NDArray[np.uint8]) -> None:
        """What a private mapping of a file shows where the process had not written; zero where it read as zeros."""
        plain = ~held & ~contains(self._reader.zero, pages)
        for mapping in self._files:
            first, last = np.searchsorted(pages, [mapping.start // PAGE, mapping.end // PAGE]).tolist()
            if plain[first:last].any():
                with open(mapping.path, "rb", buffering=0) as file:
                    for row in (np.flatnonzero(plain[first:last]) + first).tolist():
                        at = mapping.offset + int(pages[row]) * PAGE - mapping.start
                        found = os.pread(file.fileno(), PAGE, at)
                        data[row, : len(found)] = np.frombuffer(found, np.uint8)

    def _put(self, pages: NDArray[np.uint64], data: NDArray[np.uint8]) -> None:
        runs = from_pages(pages) * np.uint64(PAGE)
        written = process_vm.writev(self._pid, data.reshape(-1), runs[:, 0], runs[:, 1] - runs[:, 0])
        if written != data.nbytes:
            at = int(pages[written // PAGE]) * PAGE
            raise CannotRestore(
                f"the kernel refuses to write the page at {at:#x} of process {self._pid}; its memory is as it was"
            )

    def _undo(self, written: Sequence[NDArray[np.uint64]]) -> None:
        """The blocks of ``write`` are those of the differing pages, whose old bytes were kept in the same order."""
        self._old.seek(0)
        for pages in written:
            data = np.frombuffer(self._old.read(pages.size * PAGE), np.uint8).reshape(-1, PAGE)
            runs = from_pages(pages) * np.uint64(PAGE)
            # As far as it goes: a page that could not be written just now was not written.
            process_vm.writev(self._pid, data, runs[:, 0], runs[:, 1] - runs[:, 0])

    def _require_same_guards(self) -> None:
        then, now = intersect(self._reader.guard, self._scope), self._now.guards()
        if now is None:
            return
        if len(missing := subtract(then, now)):
            self._refuse(missing, "was a guard page (MADV_GUARD_INSTALL) and is none now")
        if len(added := subtract(now, then)):
            self._refuse(added, "is a guard page (MADV_GUARD_INSTALL) and was none")

    def _refuse(self, runs: Runs, why: str) -> None:
        raise refused(self._pid, [f"the page at {start * PAGE:x} {why}" for start, _ in runs[:16].tolist()])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._old.close()
        self._now.close()


def _runs(spans: Iterator[tuple[int, int]]) -> Runs:
    return normalise([(start // PAGE, end // PAGE) for start, end in spans])
