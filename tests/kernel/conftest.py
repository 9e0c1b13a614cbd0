# SPDX-License-Identifier: Apache-2.0
"""Memory of our own to look at, and child processes that wait until they are told to go."""

import mmap
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest
from support.fixture_types import PAGE, Fork, Memory


@pytest.fixture
def memory() -> Iterator[Memory]:
    """Mappings of our own, unmapped at the end."""
    made: list[mmap.mmap] = []

    def make(pages: int) -> tuple[mmap.mmap, int]:
        mapping = mmap.mmap(-1, pages * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        mapping.madvise(mmap.MADV_NOHUGEPAGE)
        made.append(mapping)
        return mapping, np.frombuffer(mapping, np.uint8).ctypes.data

    yield make
    for mapping in made:
        mapping.close()


@pytest.fixture
def sleeper() -> Iterator[Fork]:
    """Children that wait, killed at the end."""

    def make() -> int:
        pid = os.fork()
        if pid == 0:
            signal.pause()
            os._exit(0)
        stack.callback(os.waitpid, pid, 0)
        stack.callback(os.kill, pid, signal.SIGKILL)
        return pid

    with ExitStack() as stack:
        yield make
