# SPDX-License-Identifier: Apache-2.0
"""Reading one checkpoint: the newest from the head, an older one from a replay of layers; every page is verified."""

from collections.abc import Iterator
from types import TracebackType
from typing import Self

import numpy as np

from icecore.storage import head, runs
from icecore.storage.durable import store_errors
from icecore.storage.hashing import PageData, differs, hash_pages
from icecore.storage.image import Image
from icecore.storage.layer import LayerInfo
from icecore.storage.layer_reader import LayerReader
from icecore.storage.layers import Layers
from icecore.storage.page_file import Slots
from icecore.storage.records import PAGE_SIZE, Process, RangeMemory
from icecore.storage.replay import forget_damaged_head, replay
from icecore.storage.runs import Pages, Runs


class CheckpointReader:
    """Takes no lock: if the head moves on or is found damaged meanwhile, the layers are replayed instead."""

    def __init__(self, layers: Layers, layer_id: int) -> None:
        """Raises NoSuchCheckpoint, StoreCorrupt, StoreUnusable."""
        self._layers = layers
        self._layer: LayerReader = layers.open(layer_id)
        self._process: Process | None = None
        self._image: Image | None = None
        self._replayed = False
        try:
            table = self._layer.table
            self.info: LayerInfo = self._layer.info
            self.data: Runs = table.data
            """Pages with bytes."""
            self.zero: Runs = table.zero
            self.guard: Runs = table.guard
            self._image = self._from_head() or self._replay()
        except BaseException:
            self.close()
            raise

    @property
    def process(self) -> Process:
        """Everything but the pages. Raises CannotRestore if the checkpoint has none."""
        if self._process is None:
            self._process = self._layer.process()
        return self._process

    @property
    def memory(self) -> RangeMemory | None:
        """Whose memory it is and where it was, if it holds some ranges only."""
        return self._layer.memory()

    def blocks(self, pages_per_block: int = 256) -> Iterator[tuple[Pages, PageData]]:
        """All pages with bytes, in address order: page numbers and one row of 4096 bytes for each.

        Raises StoreCorrupt if a page cannot be had as it was.
        """
        total = runs.count(self.data)
        for first in range(0, total, pages_per_block):
            where = np.arange(first, min(first + pages_per_block, total))
            data = self._read(where)
            yield self._present().map.numbers[where], data

    def read(self, wanted: Runs) -> PageData:
        """One row per page of ``wanted``, in address order; zero pages are rows of zeros.

        Raises ValueError if the checkpoint has no such page.
        """
        pages = runs.expand(wanted)
        where, found = self._present().map.find(pages)
        rest = pages[~found]
        if not bool(runs.contains(self.zero, rest).all()):
            raise ValueError(f"checkpoint {self.info.id} does not have every page of {wanted.tolist()[:4]}")
        rows = np.zeros((len(pages), PAGE_SIZE), dtype=np.uint8)
        rows[found] = self._read(where[found])
        return rows

    def close(self) -> None:
        """May be called twice."""
        self._layer.close()
        if self._image is not None:
            self._image.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, where: Slots) -> PageData:
        image = self._present()
        data = image.file.read(image.map.slots[where])
        wrong = differs(hash_pages(data), image.map.hashes[where])
        if not wrong.any():
            return data
        if not self._replayed:
            image.close()
            self._image = self._replay()
            forget_damaged_head(self._layers, self.info)
            return self._read(where)
        address = int(image.map.numbers[where[np.argmax(wrong)]]) * PAGE_SIZE
        raise self._layer.corrupt(0, f"page {address:#x} changed while it was read")

    def _present(self) -> Image:
        assert self._image is not None
        return self._image

    def _from_head(self) -> Image | None:
        """The head, if it is there and of this layer."""
        with store_errors(self._layers.directory):
            image = head.load(self._layers.directory, writable=False)
        if image is not None and (
            image.map.digest != self.info.digest or not np.array_equal(image.map.data, self.data)
        ):
            image.close()
            return None
        return image

    def _replay(self) -> Image:
        self._replayed = True
        return replay(self._layers, self.info.id)
