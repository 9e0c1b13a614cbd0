# SPDX-License-Identifier: Apache-2.0
"""The torture's own round: nothing that shares memory with the victim runs between a checkpoint and its comparison."""

import os
from pathlib import Path

import pytest
from support.full_read import read_everything
from support.programs import c_program
from support.torture_session import Session
from support.victim import Victim

from icecore.kernel.procfs import children, read_status

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="looking at shared memory needs root")


def test_the_children_stand_still_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[str] = []

    def looked_at(pid: int) -> object:
        states.extend(read_status(child).state for child in children(pid))
        return read_everything(pid)

    monkeypatch.setattr("support.torture_round.read_everything", looked_at)
    program: list[str | Path] = [c_program("torture"), str(tmp_path / "file")]
    with Victim.start(program) as victim, Session(victim, "content", tmp_path) as session:
        session.play(["map 0 16 3", "fork", "checkpoint quiet", "child write 0 4", "checkpoint quiet"])
    assert states == ["T", "T"]
