# SPDX-License-Identifier: Apache-2.0
"""What a restore needs of a checkpoint: ``storage.CheckpointReader`` is one, a test may have another."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from icecore.storage.hashing import PageData
from icecore.storage.records import Process, RangeMemory
from icecore.storage.runs import Runs

Block = tuple[NDArray[np.uint64], NDArray[np.uint8]]
"""Ascending page numbers, and their bytes (n, 4096)."""


class PageSource(Protocol):
    """The state of a process and its pages."""

    @property
    def process(self) -> Process:
        """Everything but the pages."""
        ...

    @property
    def data(self) -> Runs:
        """Pages with bytes."""
        ...

    @property
    def zero(self) -> Runs:
        """Pages that are there and all zero."""
        ...

    @property
    def guard(self) -> Runs:
        """Guard pages (MADV_GUARD_INSTALL)."""
        ...

    def blocks(self, pages_per_block: int = 256) -> Iterator[Block]:
        """The bytes of ``data``, in address order; a block must stay as it is after the next one was asked for."""
        ...


class RangeSource(PageSource, Protocol):
    """A checkpoint whose memory may go into a process that runs."""

    @property
    def memory(self) -> RangeMemory | None:
        """Which ranges it holds, if it does not hold a whole process."""
        ...

    def read(self, wanted: Runs) -> PageData:
        """The bytes of some pages of ``data``, one row each, in address order."""
        ...
