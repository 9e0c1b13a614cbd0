# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint keeps of a process beside its pages: everything, or, for a choice of ranges, where they are."""

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from icecore.daemon.capture import Captured, capture, prepare
from icecore.daemon.target import Target
from icecore.daemon.tracker.base import Ranges
from icecore.daemon.tracker.layout import Backing, Piece, make_layout
from icecore.daemon.tracker.ranges import spell
from icecore.inject import Frozen
from icecore.kernel.procfs import Vma, read_maps, read_vm_flags
from icecore.storage.records import Mapping, Process, RangeMemory


class ProcessState(Protocol):
    """Filled while the target is frozen, completed when it runs again."""

    def capture(self, frozen: Frozen, vmas: Sequence[Vma]) -> None:
        """Take what must be of the frozen moment."""
        ...

    def complete(self) -> Process | RangeMemory | None:
        """The record; what takes its time is done here."""
        ...


class State:
    """The whole process. Making one checks the target: CannotRestore, with every obstacle, before anything is done."""

    def __init__(self, target: Target) -> None:
        self._pid = target.pid
        vmas = read_maps(target.pid)
        self._flags = read_vm_flags(target.pid)
        self._prepared = prepare(target, vmas, self._flags)
        self._captured: Captured | None = None

    def capture(self, frozen: Frozen, vmas: Sequence[Vma]) -> None:
        """See ``ProcessState``."""
        self._captured = capture(frozen, vmas, self._prepared)

    def complete(self) -> Process:
        """With VmFlags as they were at the check, and as they are now for mappings that came since."""
        assert self._captured is not None, "not captured"
        if any((vma.start, vma.end) not in self._flags for vma in self._captured.vmas):
            with suppress(FileNotFoundError, ProcessLookupError):  # it may have ended since: its moment is kept
                self._flags = read_vm_flags(self._pid) | self._flags
        return self._captured.complete(self._flags)


class RangeState:
    """What a later restore into a running process compares: what was mapped in the ranges."""

    def __init__(self, target: Target, ranges: Ranges) -> None:
        self._target = target
        self._ranges = ranges
        self._vmas: Sequence[Vma] = ()

    def capture(self, frozen: Frozen, vmas: Sequence[Vma]) -> None:  # noqa: ARG002 (the signature is ProcessState's)
        """See ``ProcessState``."""
        self._vmas = vmas

    def complete(self) -> RangeMemory:
        """See ``ProcessState``."""
        layout = make_layout(self._vmas, self._ranges)
        return RangeMemory(
            pid=self._target.pid,
            start_time=self._target.start_time,
            comm=self._target.comm,
            asked=tuple(spell(one) for one in self._ranges),
            ranges=layout.spans,
            mappings=tuple(_mapping(piece) for piece in layout.pieces),
        )


_KINDS = {Backing.ANONYMOUS: "anon", Backing.FILE: "file", Backing.SHARED: "shmem"}


def _mapping(piece: Piece) -> Mapping:
    vma = piece.vma
    size, mtime_ns = _size_and_time(vma.path) if piece.backing is Backing.FILE else (0, 0)
    return Mapping(
        start=piece.start,
        end=piece.end,
        prot=vma.prot,
        shared=vma.shared,
        kind=_KINDS[piece.backing],
        offset=vma.offset + piece.start - vma.start if vma.inode else 0,
        path=vma.path,
        dev=vma.dev,
        inode=vma.inode,
        file_size=size,
        file_mtime_ns=mtime_ns,
    )


def _size_and_time(path: str) -> tuple[int, int]:
    """Zeros for a file that was deleted: then its identity alone must do."""
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


class MemoryOnly:
    """Nothing beside the pages."""

    def capture(self, frozen: Frozen, vmas: Sequence[Vma]) -> None:
        """Nothing to take."""

    def complete(self) -> None:
        """Nothing to keep."""
