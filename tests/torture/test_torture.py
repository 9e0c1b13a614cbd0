# SPDX-License-Identifier: Apache-2.0
"""The torture: random sequences of everything that a process can do to its memory, checkpoints in between.

Two counters must stay 0: pages missed (the checkpoint differs from an independent full read of the same moment) and
pages stored falsely (though equal to the checkpoint before). A sequence that fails shrinks, and prints itself as lines
for a file in ``sequences/``, where ``test_sequences.py`` plays it for ever.

ICECORE_TORTURE_OPERATIONS: how many, for each tracker (default 20000); an eighth of it with ``--no-exact``, whose
counters are only reported. ICECORE_TORTURE_SEED: which ones (default 0).
"""

import faulthandler
import itertools
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase
from support.memory import PAGE
from support.summary import Record, Torture, record
from support.torture_drawn import CLOSE, WIDE, Plan, drawn, each
from support.torture_round import Missed, Totals
from support.torture_session import ARENA, play
from support.torture_system import ksm_and_huge_pages
from support.trackers import working_trackers
from vm.session import IN_GUEST

from icecore.daemon.tracker import Collected, Content
from icecore.kernel.procfs import Vma
from icecore.storage.runs import from_pages, subtract

OPERATIONS = int(os.environ.get("ICECORE_TORTURE_OPERATIONS", "20000"))
SEED = int(os.environ.get("ICECORE_TORTURE_SEED", "0"))
PLAN = WIDE if IN_GUEST in os.environ else CLOSE
KERNEL_TRACKERS = [name for name in working_trackers() if name != "content"]
FORGOTTEN = from_pages(np.arange(ARENA // PAGE, ARENA // PAGE + 16, dtype=np.uint64))

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="looking at shared memory needs root")]


@pytest.fixture(scope="module", autouse=True)
def whole_machine() -> Iterator[None]:
    with ksm_and_huge_pages():
        yield


@pytest.fixture
def directory() -> Iterator[Path]:
    """In memory, if there is a file system for that: it is the trackers that are under test, not the disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="icecore-torture-", dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


@pytest.mark.parametrize("tracker", working_trackers())
def test_nothing_missed_nothing_false(tracker: str, directory: Path, record_property: Record) -> None:
    totals = torture(tracker, directory, OPERATIONS, record_property)
    assert not totals.missed
    assert not totals.false


@pytest.mark.parametrize("tracker", KERNEL_TRACKERS)
def test_no_exact_stores_noise(tracker: str, directory: Path, record_property: Record) -> None:
    """And nothing worse, but for soft-dirty, whose marks the kernel may lose."""
    totals = torture(tracker, directory, OPERATIONS // 8, record_property, exact=False)
    assert totals.false
    assert tracker == "soft-dirty" or not totals.missed


def torture(tracker: str, directory: Path, operations: int, record_property: Record, exact: bool = True) -> Totals:
    """So many operations; what they came to is recorded for the table at the end."""
    faulthandler.cancel_dump_traceback_later()  # pytest's dump after faulthandler_timeout: this is no hang
    totals = Totals()
    number = SEED
    try:
        for number in itertools.count(SEED):
            for lines in drawn(PLAN, number):
                if totals.operations >= operations:
                    return totals
                one(tracker, directory, totals, number, lines, exact)
    finally:
        figures = Torture.of(tracker, exact, totals)
        record(record_property, figures)
        print(f"{figures}, seeds {SEED} to {number}, {totals.refused} more were refused, {totals.changed} pages stored")
    raise AssertionError("unreachable")


def one(tracker: str, directory: Path, totals: Totals, number: int, lines: list[str], exact: bool) -> None:
    """One sequence. If it fails, hypothesis draws that seed's again, and shrinks it."""
    try:
        play(lines, tracker, directory, totals, exact)
    except BaseException as error:
        if not exact and isinstance(error, Missed):
            return  # counted
        if isinstance(error, Exception):
            shrink(PLAN, tracker, directory, number, exact)
        tell(error, tracker, number, lines)
        raise


def shrink(plan: Plan, tracker: str, directory: Path, number: int, exact: bool = True) -> None:
    """Raises what the smallest sequence raises that fails; nothing if none does again."""

    def use(lines: list[str]) -> None:
        try:
            play(lines, tracker, directory, Totals(), exact)
        except BaseException as error:
            tell(error, tracker, number, lines)
            raise

    each(plan, number, use, Phase.shrink)


def tell(error: BaseException, tracker: str, number: int, lines: Sequence[str]) -> None:
    """With the error, what led to it."""
    error.add_note(f"seed {number}, tracker {tracker}, sequence:\n" + "\n".join(lines))


class Forgetful(Content):
    """Knows nothing of the pages that are written most."""

    def collect_frozen(self, vmas: Sequence[Vma]) -> Collected:
        moment = super().collect_frozen(vmas)
        return replace(moment, in_doubt=subtract(moment.in_doubt, FORGOTTEN))


def test_the_torture_notices(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that a tracker does not name, and what is printed then."""

    def choose(pid: int, *_: object) -> Forgetful:
        return Forgetful(pid)

    monkeypatch.setattr("support.torture_session.choose", choose)
    with pytest.raises(Missed, match="holds other bytes") as caught:
        shrink(replace(CLOSE, longest=3), "content", directory, SEED)
    sequence = "\n".join(caught.value.__notes__)
    assert "checkpoint" in sequence
    assert len(sequence.splitlines()) < 60
