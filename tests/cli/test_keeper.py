# SPDX-License-Identifier: Apache-2.0
"""Keeping a job: real children and signals; only the taking of a checkpoint is a function of the test."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from icecore.cli.child import Child
from icecore.cli.complaints import SLOWEST, Complaints
from icecore.cli.inbox import Inbox
from icecore.cli.keeper import Keeper, Outcome
from icecore.daemon.report import Report
from icecore.errors import CannotRestore, IcecoreError, StoreUnusable


def report(number: int) -> Report:
    return Report(
        name="job", pid=1, id=number, kind="delta", tracker="content", tracker_reason="", rounds=1, pause_us=1,
        pages_populated=1, pages_dirty=1, pages_stored=1, bytes_raw=4096, bytes_written=100,
    )  # fmt: skip


class Fake:
    """Takes checkpoints: what each one does is given; after the last of them the child gets ``finally_signal``."""

    def __init__(self, child: Child, *steps: Callable[[], None], finally_signal: int = signal.SIGKILL) -> None:
        self.child = child
        self.steps = list(steps)
        self.finally_signal = finally_signal
        self.kills: list[bool] = []

    def __call__(self, kill: bool) -> Report:
        self.kills.append(kill)
        if self.steps:
            self.steps.pop(0)()
        elif not kill:
            os.kill(self.child.pid, self.finally_signal)
        if kill:
            os.kill(self.child.pid, signal.SIGKILL)
        return report(len(self.kills))


def nothing() -> None:
    """A checkpoint that goes well."""


def fail(problem: IcecoreError) -> Callable[[], None]:
    def step() -> None:
        raise problem

    return step


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    """Ends with status 3 on SIGTERM, with 5 on SIGUSR1; ready when the fixture is."""
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    script = (
        "import os, signal\n"
        "signal.signal(signal.SIGTERM, lambda *_: os._exit(3))\n"
        "signal.signal(signal.SIGUSR1, lambda *_: os._exit(5))\n"
        f"open({str(ready)!r}, 'w').close()\n"
        "while True: signal.pause()"
    )
    started = Child.start([sys.executable, "-c", script])
    ready.read_text()
    yield started
    started.send(signal.SIGKILL)
    if started.status is None:
        started.reap()
    started.close()


def keep(child: Child, take: Callable[[bool], Report]) -> tuple[Outcome, Keeper]:
    with Inbox([child.pidfd]) as inbox:
        keeper = Keeper(child, take, 0.01, inbox)
        return keeper.keep(), keeper


def send_ourselves(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def test_a_job_that_is_killed_did_not_end_by_itself(child: Child) -> None:
    outcome, keeper = keep(child, Fake(child, nothing, nothing))
    assert outcome == Outcome(128 + signal.SIGKILL, by_itself=False)
    assert keeper.taken == 3
    assert keeper.last == report(3)


def test_a_job_that_exits_ended_by_itself(child: Child) -> None:
    outcome, _ = keep(child, Fake(child, finally_signal=signal.SIGTERM))
    assert outcome == Outcome(3, by_itself=True)


def test_other_signals_are_passed_on(child: Child) -> None:
    outcome, _ = keep(child, Fake(child, nothing, send_ourselves(signal.SIGUSR1), *[nothing] * 1000))
    assert outcome == Outcome(5, by_itself=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_takes_a_last_checkpoint(child: Child, number: int) -> None:
    take = Fake(child, nothing, send_ourselves(number), *[nothing] * 1000)
    outcome, keeper = keep(child, take)
    assert outcome == Outcome(128 + number, by_itself=False)
    assert take.kills[-1] is True
    assert not any(take.kills[:-1])
    assert keeper.taken == len(take.kills)


def test_when_the_last_checkpoint_fails_the_job_gets_the_signal(
    child: Child, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(kill: bool) -> Report:
        if not kill:
            os.kill(os.getpid(), signal.SIGTERM)
            return report(1)
        raise StoreUnusable("the disk is full", "make room")

    outcome, _ = keep(child, full)
    assert outcome == Outcome(128 + signal.SIGTERM, by_itself=False)
    assert child.status is not None
    assert os.waitstatus_to_exitcode(child.status) == 3
    assert "the disk is full" in capsys.readouterr().err


def test_failures_are_said_once_and_the_job_goes_on(child: Child, capsys: pytest.CaptureFixture[str]) -> None:
    refused = fail(CannotRestore("process 1 holds: fd 9 a socket", "close it", ("fd 9 a socket",)))
    outcome, keeper = keep(child, Fake(child, refused, refused, refused, nothing, finally_signal=signal.SIGTERM))
    assert outcome.by_itself
    assert keeper.taken == 2
    said = capsys.readouterr().err
    assert said.count("fd 9 a socket") == 1
    assert said.count("checkpoints are being taken again") == 1


def test_a_bug_in_a_checkpoint_is_not_swallowed(child: Child) -> None:
    def broken(kill: bool) -> Report:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        keep(child, broken)
    assert not child.has_ended()


def test_the_pace_slows_down_and_recovers() -> None:
    complaints = Complaints(1.0)
    assert complaints.pace() == pytest.approx(1.0)
    for _ in range(20):
        complaints.failed(IcecoreError("no"))
    assert complaints.pace() == pytest.approx(SLOWEST)
    complaints.succeeded()
    assert complaints.pace() == pytest.approx(1.0)
    slow = Complaints(600.0)
    slow.failed(IcecoreError("no"))
    assert slow.pace() == pytest.approx(600.0)
