# SPDX-License-Identifier: Apache-2.0
"""The part of an address space whose pages a checkpoint may have to keep, sorted by what backs them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from icecore.daemon.tracker.base import Ranges
from icecore.kernel.arch.x86_64 import TASK_SIZE
from icecore.kernel.procfs import Span, Vma, spans_of
from icecore.storage.records import PAGE_SIZE
from icecore.storage.runs import Runs, normalise

EVERYTHING: tuple[Span, ...] = ((0, TASK_SIZE),)


class Backing(Enum):
    """Where a page comes from that the target has not written."""

    ANONYMOUS = "anonymous"
    FILE = "file"
    """Privately mapped: a page is the file's until it is written."""
    SHARED = "shared"
    """Shared memory without a path: the object's pages exist whether or not this process has touched them."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A mapping, or as much of it as lies in one tracked range."""

    start: int
    end: int
    backing: Backing
    vma: Vma


@dataclass(frozen=True, slots=True)
class Layout:
    """All pieces, and the pages of each backing."""

    pieces: tuple[Piece, ...]
    spans: tuple[Span, ...]
    """What is tracked, mapped or not: ascending, disjoint, bytes."""
    scope: Runs
    """The same in pages."""
    anonymous: Runs
    file: Runs
    shared: Runs
    everything: Runs
    shared_pieces: tuple[Piece, ...]
    file_borders: NDArray[np.uint64]
    """[start page, end page) of each piece that is FILE."""

    def of(self, backing: Backing) -> Runs:
        """The pages of one backing."""
        return {Backing.ANONYMOUS: self.anonymous, Backing.FILE: self.file, Backing.SHARED: self.shared}[backing]


def make_layout(vmas: Sequence[Vma], ranges: Ranges) -> Layout:
    """Leaves out what the kernel maps by itself, and shared files: their content is not the process's."""
    spans = resolve(vmas, ranges)
    pieces = tuple(piece for vma in vmas if (backing := backing_of(vma)) for piece in _clip(vma, backing, spans))
    by_backing = {backing: tuple(piece for piece in pieces if piece.backing is backing) for backing in Backing}
    borders = {backing: _borders(found) for backing, found in by_backing.items()}
    return Layout(
        pieces=pieces,
        spans=spans,
        scope=_pages(spans),
        anonymous=normalise(borders[Backing.ANONYMOUS]),
        file=normalise(borders[Backing.FILE]),
        shared=normalise(borders[Backing.SHARED]),
        everything=normalise(_borders(pieces)),
        shared_pieces=by_backing[Backing.SHARED],
        file_borders=borders[Backing.FILE],
    )


def resolve(vmas: Sequence[Vma], ranges: Ranges) -> tuple[Span, ...]:
    """Where the ranges are, given the mappings as they are now."""
    if not ranges:
        return EVERYTHING
    found = [span for one in ranges for span in (spans_of(one, vmas) if isinstance(one, str) else (one,))]
    joined: list[list[int]] = (_pages(found) * np.uint64(PAGE_SIZE)).tolist()
    return tuple((start, end) for start, end in joined)


def backing_of(vma: Vma) -> Backing | None:
    """None: not a checkpoint's business."""
    if vma.is_shared_memory:
        return Backing.SHARED
    if vma.shared or vma.is_of_the_kernel:
        return None
    return Backing.FILE if vma.inode else Backing.ANONYMOUS


def _clip(vma: Vma, backing: Backing, spans: Sequence[Span]) -> Iterable[Piece]:
    if spans is EVERYTHING:
        return (Piece(vma.start, vma.end, backing, vma),)
    borders = ((max(vma.start, start), min(vma.end, end)) for start, end in spans)
    return (Piece(start, end, backing, vma) for start, end in borders if start < end)


def _pages(spans: Iterable[Span]) -> Runs:
    return normalise([(start // PAGE_SIZE, end // PAGE_SIZE) for start, end in spans])


def _borders(pieces: Iterable[Piece]) -> NDArray[np.uint64]:
    pairs = [(piece.start // PAGE_SIZE, piece.end // PAGE_SIZE) for piece in pieces]
    return np.array(pairs, np.uint64).reshape(-1, 2)
