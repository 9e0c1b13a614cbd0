# SPDX-License-Identifier: Apache-2.0
"""One process under torture: it does what it is told, is checkpointed in between, and every checkpoint is compared.

A session goes through lines of text, so that a sequence that fails can be printed, kept in a file and played again:

    write 3 4                   an operation of ``victims/torture.c``
    outside 3 4                 process_vm_writev by us
    ksm                         wait until the kernel has looked for equal pages twice
    exec                        the victim executes itself
    checkpoint quiet            live rounds while the victim waits, then the frozen one
    checkpoint frozen           no live round
    checkpoint busy write 3 4   live rounds while the victim does that, thirty times over
    checkpoint failed           live rounds, and then it is given up

Trackers, rounds and layers are the product's own; what the product refuses to checkpoint is not asked for.
"""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from support.full_compare import Kept, missed
from support.memory import PAGE, Pages
from support.paged import NOTHING, Memory, is_in
from support.programs import c_program
from support.torture_round import GivenUp, Missed, Seen, Stored, Totals, WatchedRound
from support.torture_system import merge_equal_pages
from support.victim import Victim

from icecore.daemon.report import Progress
from icecore.daemon.state import MemoryOnly
from icecore.daemon.tracker import Tracker, choose
from icecore.errors import TargetGone
from icecore.inject import freeze
from icecore.kernel import process_vm
from icecore.storage.chain import Chain
from icecore.storage.layer import DELTA, LayerInfo
from icecore.storage.layer_reader import LayerReader
from icecore.storage.runs import EMPTY, Runs, contains, expand, intersect, union
from icecore.storage.store import Store

ARENA = 0x1000_0000_0000
BUSY = 30
BATCH = 50
SHOWN = 5
SPECIAL = ("checkpoint", "outside", "ksm", "exec")


class Session:
    """A victim, a tracker, a chain."""

    def __init__(
        self, victim: Victim, tracker: str, directory: Path, totals: Totals | None = None, exact: bool = True
    ) -> None:
        self.victim = victim
        self.totals = totals or Totals()
        self._name, self._exact = tracker, exact
        self._chain: Chain = Store.open(directory / "store", create=True).create_chain("torture")
        self._tracker: Tracker | None = None
        self._keyframe_due = False
        self._owed: Runs = EMPTY
        self._before: Memory = NOTHING
        """What the chain's newest checkpoint holds."""
        self._outside = 0

    def play(self, lines: Iterable[str]) -> None:
        """Do it all; Missed or Stored says what is wrong with the first checkpoint that is wrong."""
        batch: list[str] = []
        for line in lines:
            word, _, rest = line.partition(" ")
            if word not in SPECIAL:
                batch.append(line)
                continue
            self._tell(batch)
            batch = []
            if word == "checkpoint":
                self.checkpoint(*rest.split(" ", 1))
            else:
                self._special(word, rest)
        self._tell(batch)

    def _tell(self, batch: Sequence[str]) -> None:
        for first in range(0, len(batch), BATCH):
            part = batch[first : first + BATCH]
            self._count(part, self.victim.expect("ok", ";".join(part)))

    def _count(self, batch: Sequence[str], results: str) -> None:
        for line, result in zip(batch, results.split(), strict=True):
            self.totals.count(line.split()[0], result == "0")

    def _special(self, word: str, rest: str) -> None:
        if word == "exec":
            self.victim.expect("ready", "exec")
            self.totals.count(word, True)
        elif word == "ksm":
            self.totals.count(word, merge_equal_pages(self.victim.pid))
        else:
            page, count = (int(number) for number in rest.split())
            self.totals.count(word, self._write_from_outside(page, count))

    def _write_from_outside(self, page: int, count: int) -> bool:
        starts = np.arange(page, page + count, dtype=np.uint64) * np.uint64(PAGE) + np.uint64(ARENA)
        self._outside += 1
        data = np.arange(self._outside << 32, (self._outside << 32) + count, dtype=np.uint64).view(np.uint8)
        return process_vm.writev(self.victim.pid, data, starts, np.full(count, 8, np.uint64)) > 0

    def checkpoint(self, how: str, busy: str = "") -> Seen | None:
        """Take one and compare it; None: the process executed another program meanwhile, or the checkpoint failed."""
        if busy:
            self.victim.tell(";".join([busy] * BUSY))
        try:
            return self._checkpoint(how)
        except TargetGone:
            self._forget_tracker()
            return None
        finally:
            if busy:
                self._count(busy.split(";"), " ".join(self.victim.expect("ok").split()[: busy.count(";") + 1]))

    def _checkpoint(self, how: str) -> Seen | None:
        tracker = self._armed()
        with (
            self._chain.writer(force_keyframe=self._keyframe_due) as writer,
            WatchedRound(self.victim.pid, tracker, writer, MemoryOnly(), self._owed, self._exact) as work,
        ):
            try:
                if how != "frozen":
                    work.pre_copy(_silent)
                if how == "failed":
                    raise GivenUp
                with freeze(self.victim.pid) as frozen:
                    work.frozen(frozen)
                info = work.commit(_silent, 0)
            except BaseException as error:
                self._owed = union(self._owed, work.collected)
                if isinstance(error, GivenUp):
                    return None
                raise
        self._owed, self._keyframe_due = EMPTY, False
        return self._compare(work, info)

    def _armed(self) -> Tracker:
        if self._tracker is not None and self._tracker.alive():
            return self._tracker
        self._forget_tracker()
        tracker = choose(self.victim.pid, self._name, (), self._exact)
        with freeze(self.victim.pid) as frozen:
            tracker.arm(frozen)
        self._tracker = tracker
        return tracker

    def _forget_tracker(self) -> None:
        if self._tracker is not None:
            self._tracker.close()
            self._tracker, self._keyframe_due, self._owed = None, True, EMPTY

    def _compare(self, work: WatchedRound, info: LayerInfo) -> Seen:
        with self._chain.reader() as reader:
            blocks = list(reader.blocks())
            zero, guards = expand(reader.zero), expand(reader.guard)
        data = NOTHING
        if blocks:
            data = Memory(np.concatenate([pages for pages, _ in blocks]), np.concatenate([rows for _, rows in blocks]))
        wrong = list(missed(work.truth, Kept(data, zero, guards)))
        unchanged = data.pages[self._before.equal(data.pages, data.content)]
        stored = self._stored(info)
        false = stored[is_in(stored, unchanged)] if info.kind == DELTA else stored[:0]
        named = intersect(union(work.collected, work.moment.dirty), work.moment.populated)
        seen = Seen(named, work.moment.in_doubt, unchanged, stored, info.kind)
        self._before = data
        self._note(seen, len(wrong), len(false))
        if wrong:
            raise Missed(f"{len(wrong)} pages: " + "; ".join(wrong[:SHOWN]))
        if len(false) and self._exact:
            raise Stored(f"{len(false)} pages: " + "; ".join(work.truth.name(page) for page in false.tolist()[:SHOWN]))
        return seen

    def _stored(self, info: LayerInfo) -> Pages:
        with LayerReader(self._chain.directory / f"{info.id:08d}.layer", self._chain.name, info.id) as layer:
            return expand(layer.table.stored)

    def _note(self, seen: Seen, wrong: int, false: int) -> None:
        self.totals.checkpoints += 1
        self.totals.missed += wrong
        self.totals.false += false
        candidates = union(seen.named, seen.in_doubt)
        self.totals.candidates += int(np.count_nonzero(contains(candidates, seen.unchanged)))
        self.totals.changed += len(seen.stored)

    def close(self) -> None:
        """Stop tracking."""
        if self._tracker is not None:
            self._tracker.close()
            self._tracker = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _silent(progress: Progress) -> None:
    """Nobody listens."""


def play(lines: Sequence[str], tracker: str, directory: Path, totals: Totals, exact: bool = True) -> None:
    """A victim and a chain of its own for one sequence."""
    with tempfile.TemporaryDirectory(dir=directory) as name:
        program: list[str | Path] = [c_program("torture"), str(Path(name) / "file")]
        with Victim.start(program) as victim, Session(victim, tracker, Path(name), totals, exact) as session:
            session.play(lines)
