# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint keeps of a process beside its pages: everything, or, for a choice of ranges, nothing."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from icecore.daemon.capture import Captured, capture, prepare
from icecore.daemon.target import Target
from icecore.inject import Frozen
from icecore.kernel.procfs import Vma, read_maps, read_vm_flags
from icecore.storage.records import Process


class ProcessState(Protocol):
    """Filled while the target is frozen, completed when it runs again."""

    def capture(self, frozen: Frozen, vmas: Sequence[Vma]) -> None:
        """Take what must be of the frozen moment."""
        ...

    def complete(self) -> Process | None:
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


class MemoryOnly:
    """Nothing beside the pages."""

    def capture(self, frozen: Frozen, vmas: Sequence[Vma]) -> None:
        """Nothing to take."""

    def complete(self) -> None:
        """Nothing to keep."""
