# SPDX-License-Identifier: Apache-2.0
"""Writing one checkpoint: pages come in any number of rounds, what did not change is dropped, the rest is encoded.

Bounded memory: some 30 MiB of blocks in flight, and per page of the target about 60 bytes in arrays.
"""

import time
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from icecore.storage import layer, runs
from icecore.storage.added import Added, Classes, Fate, Fates
from icecore.storage.durable import store_errors
from icecore.storage.encoder import Encoded, Encoder
from icecore.storage.hashing import Hashes, PageData, differs, hash_pages, is_zero
from icecore.storage.image import EMPTY_MAP
from icecore.storage.layer import LayerInfo, LayerStats
from icecore.storage.layer_file import LayerFile
from icecore.storage.layer_index import Record
from icecore.storage.page_table import PageTable
from icecore.storage.records import PAGE_SIZE, RangeMemory
from icecore.storage.runs import EMPTY, Mask, Pages, Runs
from icecore.storage.write_session import WriteSession


class LayerWriter:
    """Holds the chain's write lock until ``commit`` or ``abort``; leaving ``with`` aborts what is not committed.

    For one thread at a time.
    """

    def __init__(self, session: WriteSession) -> None:
        self._session = session
        self._kind = layer.KEYFRAME if session.head is None else layer.DELTA
        self._map = EMPTY_MAP if session.head is None else session.head.map
        self.known: Runs = runs.union(self._map.data, self._map.zero)
        """Pages that need not be added unless they changed."""
        self._added = Added()
        self._head_damaged = False
        with store_errors(session.directory):
            self._file = LayerFile(session.directory)
        self._encoder = Encoder(session.head, self._write)
        self._open = True

    @property
    def directory(self) -> Path:
        """The chain's: scratch files belong on the same file system."""
        return self._session.directory

    def add(self, pages: Pages, data: PageData, regardless: Mask | None = None) -> int:
        """Take the present bytes of ``pages`` (ascending, no repeats), one row of 4096 each; they may be overwritten
        afterwards. Those of ``regardless`` are new even if they did not change. Returns how many are new. Raises
        StoreUnusable."""
        hashes = hash_pages(data)
        fates = self._fates(pages, hashes)
        if regardless is not None:
            fates[regardless & (fates == Fate.SAME)] = Fate.STORED
        self._added.note(pages, fates)
        keep = fates == Fate.STORED
        with store_errors(self._session.directory):
            if keep.all():
                self._encoder.add(pages, data, hashes)
            else:
                self._encoder.add(pages[keep], data[keep], hashes[keep])
        return int(np.count_nonzero(keep))

    def commit(
        self,
        record: Record,
        populated: Runs,
        zero: Runs = EMPTY,
        guard: Runs = EMPTY,
        stats: LayerStats | None = None,
    ) -> LayerInfo:
        """Make the checkpoint: on return it is durable.

        ``record``: the process; for a checkpoint of some ranges, those; None if it is nobody's memory.
        ``populated`` are the pages that have content, ``zero`` those that read as zeros, ``guard`` those that fault;
        nothing else exists. Raises StoreUnusable (the chain is then as it was) and RuntimeError if a populated page was
        neither added nor known.
        """
        try:
            classes = self._added.classes(populated, zero, guard, self._map)
            with store_errors(self._session.directory):
                self._encoder.finish()
                info = self._info(record, runs.count(populated), classes, stats or LayerStats())
                numbers, hashes = self._file.copies()
                table = PageTable(
                    numbers=numbers,
                    hashes=hashes,
                    stored=classes.stored,
                    parent=classes.parent,
                    zero=classes.zero,
                    guard=classes.guard,
                )
                info = self._file.finish(self._session.file_name, info, record, table)
            self._session.advance_head(info, damaged=self._head_damaged)
            return info
        finally:
            self.abort()

    def abort(self) -> None:
        """Leave the chain as it was and let the next writer in. Does nothing after ``commit``."""
        if self._open:
            self._open = False
            self._encoder.close()
            self._file.close()
            self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def _fates(self, pages: Pages, hashes: Hashes) -> Fates:
        """New, as in the head, or all zeros: by hash alone."""
        fates = np.zeros(len(pages), dtype=np.uint8)
        where, found = self._map.find(pages)
        if found.any():
            same = found.copy()
            same[found] = ~differs(hashes[found], self._map.hashes[where[found]])
            fates[same] = Fate.SAME
        fates[is_zero(hashes)] = Fate.ZERO
        return fates

    def _write(self, block: Encoded) -> None:
        self._head_damaged |= block.head_damaged
        self._file.append(block)

    def _info(self, record: Record, populated: int, classes: Classes, stats: LayerStats) -> LayerInfo:
        parent = self._session.parent
        stored = runs.count(classes.stored)
        return LayerInfo(
            id=self._session.id,
            kind=self._kind,
            digest="",
            parent=parent.digest if parent else "",
            time_ns=time.time_ns(),
            tracker=stats.tracker,
            tracker_reason=stats.tracker_reason,
            rounds=stats.rounds,
            pause_us=stats.pause_us,
            pages_populated=populated,
            pages_dirty=stats.pages_dirty,
            pages_stored=stored,
            bytes_raw=stored * PAGE_SIZE,
            bytes_written=0,
            ranges=isinstance(record, RangeMemory),
            pid=record.pid if record else 0,
            start_time=record.start_time if record else 0,
            comm=record.comm if record else "",
        )
