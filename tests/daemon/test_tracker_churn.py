# SPDX-License-Identifier: Apache-2.0
"""Random work on memory by a victim that knows what every page must hold, against each tracker."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.mirror import Mirror
from support.trackers import working_trackers
from support.victim import Victim

from icecore.daemon.tracker import choose

ROUNDS = 40
STEPS = 25


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", working_trackers())
def test_nothing_is_missed(start: Callable[..., Victim], tmp_path: Path, name: str, seed: int) -> None:
    victim = start("churn", str(seed), str(tmp_path / "file"))
    tracker = choose(victim.pid, name)
    mirror = Mirror(victim.pid, tracker)
    mirror.start()
    for number in range(ROUNDS):
        victim.expect("ok", f"step {STEPS}")
        for _ in range(number % 3):
            mirror.live()
            victim.expect("ok", "step 3")
        mirror.frozen()
    victim.expect("ok", "check")
    tracker.close()


@pytest.mark.parametrize("name", [name for name in working_trackers() if name != "content"])
def test_nothing_is_missed_while_it_works(start: Callable[..., Victim], tmp_path: Path, name: str) -> None:
    """Live rounds in the middle of the work: the answer to ``step`` is read only after them."""
    victim = start("churn", "9", str(tmp_path / "file"))
    tracker = choose(victim.pid, name)
    mirror = Mirror(victim.pid, tracker)
    mirror.start()
    for number in range(ROUNDS):
        victim.tell(f"step {STEPS * 20}")
        for _ in range(1 + number % 3):
            mirror.live()
        mirror.frozen()
        mirror.live()
        assert victim.line().startswith("ok")
        mirror.frozen()
    victim.expect("ok", "check")
    tracker.close()
