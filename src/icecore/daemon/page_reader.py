# SPDX-License-Identifier: Apache-2.0
"""Reading many pages of another process: by process_vm_readv, and by /proc/PID/mem where protection forbids that."""

import os

import numpy as np
from numpy.typing import NDArray

from icecore.kernel import process_vm
from icecore.storage import runs as page_runs
from icecore.storage.records import PAGE_SIZE
from icecore.storage.runs import Runs


class PageReader:
    """Reads pages of one address space; opened anew after the target executed another program."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)

    def read(self, wanted: Runs) -> tuple[NDArray[np.uint64], NDArray[np.uint8], NDArray[np.uint64]]:
        """Pages of ``wanted`` (at most a few MiB): numbers and bytes (n, 4096) of those that could be read, and the
        numbers of the others, which are unmapped, guarded or behind the end of their file."""
        pages = page_runs.expand(wanted)
        data = np.empty((pages.size, PAGE_SIZE), np.uint8)
        starts, lengths = wanted[:, 0] * PAGE_SIZE, (wanted[:, 1] - wanted[:, 0]) * PAGE_SIZE
        done = process_vm.readv(self._pid, data.reshape(-1), starts, lengths) // PAGE_SIZE
        if done == pages.size:
            return pages, data, pages[:0]
        readable = np.ones(pages.size, np.bool_)
        while done < pages.size:
            done = self._read_around(pages, data, readable, done)
        return pages[readable], data[readable], pages[~readable]

    def _read_around(
        self, pages: NDArray[np.uint64], data: NDArray[np.uint8], readable: NDArray[np.bool_], at: int
    ) -> int:
        """Past a page where process_vm_readv stopped: as much of its run as /proc/PID/mem gives, else one page less."""
        breaks = np.flatnonzero(np.diff(pages[at:]) != 1)
        end = at + (int(breaks[0]) + 1 if breaks.size else pages.size - at)
        got = self._read_memory(int(pages[at]) * PAGE_SIZE, data[at:end])
        readable[at] = got > 0
        at += max(got, 1)
        rest = page_runs.from_pages(pages[at:])
        if not rest.size:
            return at
        starts, lengths = rest[:, 0] * PAGE_SIZE, (rest[:, 1] - rest[:, 0]) * PAGE_SIZE
        return at + process_vm.readv(self._pid, data[at:].reshape(-1), starts, lengths) // PAGE_SIZE

    def _read_memory(self, address: int, room: NDArray[np.uint8]) -> int:
        try:
            return os.preadv(self._memory, [room.data], address) // PAGE_SIZE
        except OSError:
            return 0

    def close(self) -> None:
        """Give the descriptor back."""
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1
