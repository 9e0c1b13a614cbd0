# SPDX-License-Identifier: Apache-2.0
"""Clearing the soft-dirty marks of a process: where the kernel has them they go, and come back with the next write."""

import os

import pytest
from support.fixture_types import PAGE, Fork, Memory

from icecore.kernel.clear_refs import clear_soft_dirty
from icecore.kernel.pagemap import PM_SOFT_DIRTY, Pagemap


def test_marks_are_cleared_if_there_are_any(memory: Memory) -> None:
    """The write to clear_refs succeeds in any case."""
    mapping, start = memory(4)
    mapping[0] = mapping[PAGE] = 1
    with Pagemap(os.getpid()) as pagemap:

        def marks() -> list[bool]:
            return [bool(entry & PM_SOFT_DIRTY) for entry in pagemap.entries(start, start + 4 * PAGE).tolist()]

        kernel_marks = marks()[0]
        assert marks() == [kernel_marks] * 4  # a new mapping is marked as a whole
        clear_soft_dirty(os.getpid())
        assert marks() == [False] * 4
        mapping[PAGE] = 2
        assert marks() == [False, kernel_marks, False, False]


def test_of_another_process(sleeper: Fork) -> None:
    clear_soft_dirty(sleeper())


def test_of_none() -> None:
    with pytest.raises(FileNotFoundError):
        clear_soft_dirty(1 << 30)
