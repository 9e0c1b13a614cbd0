# SPDX-License-Identifier: Apache-2.0
"""Memory that the kernel writes to without its page tables: buffers registered with io_uring."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.programs import c_program
from support.torture_session import ARENA, Session
from support.trackers import working_trackers
from support.victim import Victim
from support.waiting import wait_until

from icecore.daemon.tracker import choose
from icecore.inject import freeze
from icecore.kernel.procfs import fd_link, fd_numbers, read_maps, read_vm_pin_kb
from icecore.storage.records import PAGE_SIZE
from icecore.storage.runs import contains, union

KERNEL_TRACKERS = [name for name in working_trackers() if name != "content"]
PINNED = ARENA // PAGE_SIZE + 4

pytestmark = [
    pytest.mark.parametrize("name", KERNEL_TRACKERS),
    pytest.mark.skipif(os.geteuid() != 0, reason="the comparison looks at mapped files, which needs root"),
]


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Victim]:
    with Victim.start([c_program("torture"), str(tmp_path / "file")]) as started:
        yield started


def gone(pid: int) -> bool:
    """The kernel unpins some time after the ring was closed."""
    links = [fd_link(pid, fd) for fd in fd_numbers(pid)]
    return "anon_inode:[io_uring]" not in links and not read_vm_pin_kb(pid)


@pytest.mark.parametrize("how", ["quiet", "frozen"])
def test_written_while_pinned_and_let_go_before_the_checkpoint(
    victim: Victim, name: str, how: str, tmp_path: Path
) -> None:
    with Session(victim, name, tmp_path) as session:
        session.play(["map 0 16 0", "write 0 16", "pin 4 2", "checkpoint quiet", "checkpoint quiet"])
        session.play(["transfer 3", "unpin"])
        wait_until(lambda: gone(victim.pid), "the ring's end")
        session.play([f"checkpoint {how}", "write 0 1", "checkpoint quiet"])
        assert not session.totals.missed


def test_pinned_after_the_last_live_round(victim: Victim, name: str) -> None:
    """Pinning writes, as far as page tables know, so that nobody has to look for it while the target is frozen."""
    victim.expect("ok", "map 0 16 0;write 0 16")
    tracker = choose(victim.pid, name)
    with freeze(victim.pid) as frozen:
        tracker.arm(frozen)
    for _ in range(2):
        tracker.collect(read_maps(victim.pid))
    assert victim.expect("ok", "pin 4 2;transfer 3;unpin") == "0 0 0"
    with freeze(victim.pid):
        moment = tracker.collect_frozen(read_maps(victim.pid))
    tracker.close()
    assert contains(union(moment.dirty, moment.in_doubt), np.array([PINNED], np.uint64)).all()
