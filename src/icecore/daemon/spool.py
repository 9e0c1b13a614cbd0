# SPDX-License-Identifier: Apache-2.0
"""Pages copied while the target is frozen, kept until they can be encoded: in memory up to a limit, then on disk."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from icecore.storage.records import PAGE_SIZE

MEMORY_LIMIT = 64 << 20

Block = tuple[NDArray[np.uint64], NDArray[np.uint8]]
"""Page numbers (n), and their bytes (n, 4096)."""


class Spool:
    """Blocks in the order in which they came. The file, where one is needed, has no name and ends with us."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._kept: list[Block] = []
        self._spilled: list[NDArray[np.uint64]] = []
        self._file: IO[bytes] | None = None
        self._in_memory = 0

    def append(self, pages: NDArray[np.uint64], data: NDArray[np.uint8]) -> None:
        """Keep a block; the spool owns ``data`` from now on."""
        if self._in_memory + data.nbytes <= MEMORY_LIMIT:
            self._in_memory += data.nbytes
            self._kept.append((pages, data))
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115 (closed by __exit__)
        self._file.write(data.data)
        self._spilled.append(pages)

    def blocks(self) -> Iterator[Block]:
        """Everything, once; memory is given back as it goes."""
        while self._kept:
            yield self._kept.pop(0)
        if self._file is None:
            return
        self._file.seek(0)
        for pages in self._spilled:
            raw = self._file.read(pages.size * PAGE_SIZE)
            yield pages, np.frombuffer(raw, np.uint8).reshape(-1, PAGE_SIZE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
