# SPDX-License-Identifier: Apache-2.0
"""The two policies at the engine: what is stored of the pages that a tracker names, and what the pause counts."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.hands import NONE, Hands
from support.memory import PAGE
from support.mirror import offsets
from support.trackers import working_trackers
from support.victim import Victim

from icecore.daemon.engine import Checkpointer
from icecore.daemon.report import Report
from icecore.daemon.target import Target
from icecore.storage.chain import Chain
from icecore.storage.layer_reader import LayerReader
from icecore.storage.runs import Runs
from icecore.storage.store import Store

N = 64
KERNEL_TRACKERS = [name for name in working_trackers() if name != "content"]


@pytest.fixture
def hands(start: Callable[..., Victim]) -> Hands:
    return Hands(start("hands"))


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Store.open(tmp_path / "store", create=True).create_chain("victim")


def stored(chain: Chain, report: Report) -> Runs:
    with LayerReader(chain.directory / f"{report.id:08d}.layer", chain.name, report.id) as layer:
        return layer.table.stored


@pytest.mark.parametrize("name", KERNEL_TRACKERS)
@pytest.mark.parametrize("exact", [True, False])
def test_a_page_that_was_written_and_did_not_change(hands: Hands, chain: Chain, name: str, exact: bool) -> None:
    at = hands.map(N)
    hands.map(1, prot=NONE)
    hands.fill(at, N)
    with (
        Target.open(hands.pid) as target,
        Checkpointer.open(target, chain, name, exact=exact) as checkpointer,
    ):
        assert offsets(stored(chain, checkpointer.checkpoint()), at, N) == list(range(N))
        checkpointer.checkpoint()
        hands.put(at + 5 * PAGE, hands.get(at + 5 * PAGE))
        hands.put(at + 3 * PAGE, hands.get(at + 3 * PAGE) ^ 1)
        assert offsets(stored(chain, checkpointer.checkpoint()), at, N) == ([3] if exact else [3, 5])
        report = checkpointer.checkpoint()
        if exact:
            assert not len(offsets(stored(chain, report), at, N))
        assert report.pause_us > 0


@pytest.mark.parametrize("name", working_trackers())
def test_every_checkpoint_names_its_tracker(hands: Hands, chain: Chain, name: str) -> None:
    with Target.open(hands.pid) as target, Checkpointer.open(target, chain, name) as checkpointer:
        checkpointer.checkpoint()
    (info,) = chain.layers()
    assert info.tracker == name
    assert info.tracker_reason == "asked for"
