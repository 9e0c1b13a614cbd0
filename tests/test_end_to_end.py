# SPDX-License-Identifier: Apache-2.0
"""Every victim is recorded as a keyframe and at least five deltas, killed, and restored from each link of the chain."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.programs import c_program, go_program, python_program
from support.recording import Link, Recording
from support.victim import Victim

LINKS = 7


@dataclass(frozen=True, slots=True)
class Case:
    """How one victim is started, driven and judged."""

    name: str
    argv: Callable[[Path], Sequence[str | Path]]
    step: str = "check"
    """The command before each checkpoint."""
    exact: bool = False
    """The numbers in its answers belong to the link exactly; else they only go up."""
    last: str = "check"
    """The command with which a restored victim proves that everything is there."""


def _churn(seed: int) -> Case:
    return Case(f"churn-{seed}", lambda files: [c_program("churn"), str(seed), files / "f"], step="step 400")


CASES = [
    Case("counter", lambda _: [c_program("counter")]),
    Case("threads", lambda _: [c_program("threads")]),
    Case("files", lambda files: [c_program("files"), files], step="step 9", exact=True, last="drain"),
    Case("interpreter", lambda files: [*python_program("interpreter"), files], step="step 3"),
    Case("gopher", lambda _: [go_program("gopher")]),
    Case("writer", lambda _: [c_program("writer"), "48", "3000"]),
    *map(_churn, range(4)),
]
"""Churn's answers to ``check`` are page counts, neither exact nor rising: see ``_judge``."""


def _number(answer: str) -> int:
    return int(answer.rsplit(maxsplit=1)[-1])


def _record(case: Case, recording: Recording) -> None:
    """Half of the links while the victim runs, half while it is parked and can be compared byte by byte."""
    for index in range(LINKS):
        answer = recording.victim.expect("ok", case.step)
        if index % 2:
            recording.checkpoint(answer)
        else:
            recording.victim.expect("parked", "park")
            recording.checkpoint_and_compare(answer)
    recording.victim.expect("ok", "check")
    assert [link.report.kind for link in recording.links] == ["keyframe"] + ["delta"] * (LINKS - 1)


def _judge(case: Case, link: Link, restored: Victim) -> None:
    answer = restored.expect("ok", "check")
    if case.exact:
        assert _number(answer) == _number(link.answer)
    elif not case.name.startswith("churn"):
        assert _number(answer) >= _number(link.answer)
    restored.expect("ok", case.step)
    restored.expect("ok", case.last)
    restored.tell("quit")
    assert restored.wait() == 7
    assert not restored.last_words()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("tracker", ["auto", "content"])
def test_every_link_of_a_chain(case: Case, tracker: str, tmp_path: Path) -> None:
    """Recorded running and parked; afterwards the original is killed and each link is restored, newest first."""
    files = tmp_path / "files"
    files.mkdir()
    with Victim.start(case.argv(files)) as victim:
        with Recording(victim, tmp_path / "store", files, tracker) as recording:
            _record(case, recording)
        victim.kill()
        for link in reversed(recording.links):
            with recording.restored(link) as restored:
                _judge(case, link, restored)


def test_a_restored_process_is_recorded_and_restored_again(tmp_path: Path) -> None:
    """A restored process is a process like any other: its chain goes on with deltas, and those are restored too."""
    with Victim.start([c_program("threads")]) as victim:
        with Recording(victim, tmp_path / "store") as recording:
            recording.checkpoint(victim.expect("ok", "check"), kill=True)
        victim.wait()
    for _ in range(3):
        with recording.restored(recording.links[-1]) as restored:
            recording.victim = restored
            with recording.again(restored):
                recording.checkpoint(restored.expect("ok", "check"), kill=True)
            restored.wait()
    with recording.restored(recording.links[-1]) as restored:
        assert _number(restored.expect("ok", "check")) > _number(recording.links[0].answer)


def test_killing_checkpoint_is_the_last_moment(tmp_path: Path) -> None:
    """With ``kill`` nothing happens between the checkpoint and the end."""
    files = tmp_path / "files"
    files.mkdir()
    with Victim.start([c_program("files"), files]) as victim:
        with Recording(victim, tmp_path / "store", files) as recording:
            recording.checkpoint(victim.expect("ok", "step 20"), kill=True)
        assert victim.wait() == -9
        with recording.restored(recording.links[0]) as restored:
            assert _number(restored.expect("ok", "drain")) == 20


def test_pid_taken_is_refused_with_its_holder(tmp_path: Path) -> None:
    """The original still runs: the restore names the process that has the pid, and leaves it alone."""
    from icecore.errors import Busy

    with Victim.start([c_program("counter")]) as victim, Recording(victim, tmp_path / "store") as recording:
        recording.checkpoint()
        with pytest.raises(Busy, match=str(victim.pid)), recording.restored(recording.links[0]):
            pass
        victim.expect("ok", "check")
