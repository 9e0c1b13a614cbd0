# SPDX-License-Identifier: Apache-2.0
"""What an engine does with a tracker's answers, in the plainest way, and the comparison with the target itself."""

from dataclasses import dataclass, field

import numpy as np
from support.memory import PAGE, Snapshot, take_snapshot

from icecore.daemon.page_reader import PageReader
from icecore.daemon.tracker import Collected, Tracker
from icecore.inject import freeze
from icecore.kernel.procfs import read_maps
from icecore.storage.runs import Runs, contains, count, expand, intersect, subtract, union


@dataclass
class Mirror:
    """A copy of a target's memory, kept up to date by nothing but what the tracker names."""

    pid: int
    tracker: Tracker
    pages: dict[int, bytes] = field(default_factory=dict[int, bytes])
    last: Collected | None = None
    snapshot: Snapshot | None = None

    def start(self) -> None:
        with freeze(self.pid) as frozen:
            self.tracker.arm(frozen)

    def live(self) -> Runs:
        """A round while the target runs (or, here, waits for its next command)."""
        named = self.tracker.collect(read_maps(self.pid))
        self._read(named)
        return named

    def frozen(self) -> Collected:
        """The last round, and then the truth: every page of the target, read by other means."""
        with freeze(self.pid):
            moment = self.tracker.collect_frozen(read_maps(self.pid))
            assert not count(intersect(moment.dirty, moment.in_doubt))
            assert not count(subtract(union(moment.dirty, moment.in_doubt), moment.populated))
            self._read(union(moment.dirty, moment.in_doubt))
            unheard = [page for page in expand(moment.populated).tolist() if page not in self.pages]
            assert not unheard, f"populated, but never named: {[hex(page * PAGE) for page in unheard[:5]]}"
            snapshot = take_snapshot(self.pid)
        kept = set(expand(moment.populated).tolist())
        self.pages = {page: data for page, data in self.pages.items() if page in kept}
        self.last, self.snapshot = moment, snapshot
        self._compare(moment, snapshot)
        return moment

    def _read(self, named: Runs) -> None:
        reader = PageReader(self.pid)
        pages, data, _ = reader.read(named)
        reader.close()
        self.pages.update(zip(pages.tolist(), map(bytes, data), strict=True))

    def _compare(self, moment: Collected, snapshot: Snapshot) -> None:
        truth = dict(zip(snapshot.pages.tolist(), map(bytes, snapshot.content), strict=True))
        files = set(snapshot.pages[snapshot.from_file].tolist())
        stale = [page for page, data in self.pages.items() if truth.get(page, data) != data]
        lost = [p for p, data in truth.items() if p not in self.pages and p not in files and any(data)]
        gone = [page for page in self.pages if page not in truth]
        assert not stale, f"missed: {_hex(stale)}"
        assert not lost, f"not listed: {_hex(lost)}"
        assert not gone, f"resurrected: {_hex(gone)}"
        zeros = snapshot.pages[contains(moment.zero, snapshot.pages)]
        assert not any(any(truth[page]) for page in zeros.tolist())
        assert np.array_equal(expand(moment.guard), snapshot.guards)


def offsets(runs: Runs, address: int, pages: int) -> list[int]:
    """The page indexes within [address, address + pages) that ``runs`` has."""
    first = address // PAGE
    return [page - first for page in expand(runs).tolist() if first <= page < first + pages]


def _hex(pages: list[int]) -> str:
    return ", ".join(hex(page * PAGE) for page in pages[:10])
