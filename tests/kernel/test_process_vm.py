# SPDX-License-Identifier: Apache-2.0
"""Scatter lists longer than the kernel takes at once, and ends of what can be read."""

import mmap
import os

import numpy as np
import pytest
from support.fixture_types import PAGE, Fork, Memory

from icecore.kernel.process_vm import readv, writev

PAGES = 3000


def scattered(start: int, count: int) -> tuple["np.typing.NDArray[np.uint64]", "np.typing.NDArray[np.uint64]"]:
    return start + np.arange(count, dtype=np.uint64) * (2 * PAGE), np.full(count, PAGE, np.uint64)


def test_every_other_page_of_a_child(memory: Memory, sleeper: Fork) -> None:
    mapping, start = memory(2 * PAGES)
    content = np.frombuffer(mapping, np.uint8).reshape(-1, PAGE)
    content[:] = np.random.default_rng(1).integers(0, 256, (2 * PAGES, PAGE), np.uint8)
    pid = sleeper()
    got = np.zeros((PAGES, PAGE), np.uint8)
    assert readv(pid, got, *scattered(start, PAGES)) == got.nbytes
    assert (got == content[::2]).all()
    assert writev(pid, (got ^ 0xFF).astype(np.uint8), *scattered(start, PAGES)) == got.nbytes
    back = np.zeros(PAGES * PAGE, np.uint8)
    assert readv(pid, back, *scattered(start, PAGES)) == back.nbytes
    assert (back == (got ^ 0xFF).ravel()).all()


def test_stops_at_the_first_unreadable_page() -> None:
    hole = 1500
    fd = os.memfd_create("shrunk", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, 2 * PAGES * PAGE)
        with mmap.mmap(fd, 2 * PAGES * PAGE) as mapping:
            mapping[: 2 * hole * PAGE] = b"\x07" * (2 * hole * PAGE)
            start = np.frombuffer(mapping, np.uint8).ctypes.data
            os.ftruncate(fd, 2 * hole * PAGE)  # what lies beyond the end of the file cannot be read on any kernel
            got = bytearray(PAGES * PAGE)
            assert readv(os.getpid(), got, *scattered(start, PAGES)) == hole * PAGE
            assert got[: hole * PAGE].count(7) == hole * PAGE
            assert readv(os.getpid(), got, *scattered(start + 2 * hole * PAGE, 2)) == 0
    finally:
        os.close(fd)


def test_nothing_is_nothing() -> None:
    assert readv(os.getpid(), bytearray(0), np.empty(0, np.uint64), np.empty(0, np.uint64)) == 0


def test_a_buffer_too_small_is_refused(memory: Memory) -> None:
    _, start = memory(4)
    with pytest.raises(ValueError, match="8192 bytes asked for"):
        readv(os.getpid(), bytearray(PAGE), *scattered(start, 2))


def test_no_such_process() -> None:
    buffer = bytearray(PAGE)
    with pytest.raises(ProcessLookupError):
        readv(2**22 + 1, buffer, *scattered(mmap.PAGESIZE, 1))
