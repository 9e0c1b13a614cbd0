# SPDX-License-Identifier: Apache-2.0
"""A page of the target that we mark ourselves after each clear: found clean, somebody else has cleared since."""

import os
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from icecore.kernel.pagemap import PM_SOFT_DIRTY, Pagemap
from icecore.kernel.procfs import Vma
from icecore.storage.records import PAGE_SIZE
from icecore.storage.runs import EMPTY, Runs, from_pages

STACK = "[stack]"


class Canary:
    """One byte at the far end of the main stack (the environment), written back as it is while the target is frozen.

    Where that is not possible there is no canary, and a foreign clear is not noticed. The page itself is always in
    doubt: its mark may be ours.
    """

    def __init__(self, pid: int, pagemap: Pagemap) -> None:
        self._pid = pid
        self._pagemap = pagemap
        self.page: Runs = EMPTY

    def mark(self, vmas: Sequence[Vma]) -> None:
        """After a clear."""
        self.page = EMPTY
        stack = next((vma for vma in vmas if vma.path == STACK), None)
        if stack is not None:
            with suppress(OSError):
                self._rewrite(stack.end - PAGE_SIZE)
                self.page = from_pages(np.array([stack.end // PAGE_SIZE - 1], np.uint64))

    def is_dead(self) -> bool:
        """Whether the mark is gone that was there."""
        if not len(self.page):
            return False
        address = int(self.page[0, 0]) * PAGE_SIZE
        return not int(self._pagemap.entries(address, address + PAGE_SIZE)[0]) & PM_SOFT_DIRTY

    def _rewrite(self, address: int) -> None:
        fd = os.open(f"/proc/{self._pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        try:
            os.pwrite(fd, os.pread(fd, 1, address), address)
        finally:
            os.close(fd)
