# SPDX-License-Identifier: Apache-2.0
"""The torture: random sequences of everything that a process can do to its memory, checkpoints in between.

Two counters must stay 0: pages missed (the checkpoint differs from an independent full read of the same moment) and
pages stored falsely (though equal to the checkpoint before). A sequence that fails shrinks, and prints itself as lines
for a file in ``sequences/``, where ``test_sequences.py`` plays it for ever.

ICECORE_TORTURE_OPERATIONS: how many, for each tracker (default 20000). ICECORE_TORTURE_SEED: which ones (default 0).
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from support.memory import PAGE
from support.torture_operations import sequences
from support.torture_round import Missed, Totals
from support.torture_session import ARENA, play
from support.torture_system import ksm_and_huge_pages
from support.trackers import working_trackers

from icecore.daemon.tracker import Collected, Content
from icecore.kernel.procfs import Vma
from icecore.storage.runs import from_pages, subtract

OPERATIONS = int(os.environ.get("ICECORE_TORTURE_OPERATIONS", "20000"))
SEED = int(os.environ.get("ICECORE_TORTURE_SEED", "0"))
EXAMPLES = max(5, min(50, OPERATIONS // 300))
"""Sequences from one seed, of some 100 operations each; a guest that is asked for few does not do fifty."""
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
def test_nothing_missed_nothing_false(tracker: str, directory: Path) -> None:
    totals, number = Totals(), SEED
    while totals.operations < OPERATIONS:
        torture(tracker, directory, totals, number)
        number += 1
    print(
        f"{tracker}: seeds {SEED} to {number - 1}, {totals.operations} operations, {totals.refused} more were refused, "
        f"{totals.checkpoints} checkpoints, {totals.changed} pages stored, {totals.candidates} read in vain, "
        f"{totals.missed} missed, {totals.false} false"
    )
    assert not totals.missed
    assert not totals.false


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
        torture("content", directory, Totals(), SEED, longest=3, examples=50)
    sequence = "\n".join(caught.value.__notes__)
    assert "checkpoint" in sequence
    assert len(sequence.splitlines()) < 60


def torture(
    tracker: str, directory: Path, totals: Totals, number: int, longest: int = 14, examples: int = EXAMPLES
) -> None:
    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example),
    )
    @given(sequences(longest))
    def one(lines: list[str]) -> None:
        try:
            play(lines, tracker, directory, totals)
        except BaseException as error:
            error.add_note(f"seed {number}, tracker {tracker}, sequence:\n" + "\n".join(lines))
            raise

    one()
