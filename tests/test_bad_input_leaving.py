# SPDX-License-Identifier: Apache-2.0
"""A target that exits, executes another program, is killed or whose pid is reused while it is being checkpointed."""

import os
import random
import select
import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.programs import c_program
from support.victim import Start, Victim

from icecore.daemon.engine import Checkpointer
from icecore.daemon.report import Progress
from icecore.daemon.target import Target
from icecore.errors import TargetGone
from icecore.storage.chain import Chain
from icecore.storage.store import Store

MIB = "16"
PHASES = ("check", "arm", "pre-copy", "freeze")
"""What is announced before the target's last moment is taken; in ``write`` it is safe already."""


class Tripwire:
    """A progress listener that does something once, when a phase begins, and only goes on when it is done."""

    def __init__(self, phase: str, action: Callable[[], None]) -> None:
        self.sprung = False
        self._phase = phase
        self._action = action

    def __call__(self, progress: Progress) -> None:
        if progress.phase == self._phase and not self.sprung:
            self.sprung = True
            self._action()


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """An empty chain."""
    return Store.open(tmp_path / "store", create=True).create_chain("job")


@contextmanager
def _checkpointing(victim: Victim, chain: Chain) -> Generator[Checkpointer]:
    with Target.open(victim.pid) as target, Checkpointer.open(target, chain) as checkpointer:
        yield checkpointer


def _ids(chain: Chain) -> list[int]:
    return [layer.id for layer in chain.layers()]


def _leave(victim: Victim) -> None:
    victim.tell("exit")
    assert victim.wait() == 7


def _execute(victim: Victim) -> None:
    victim.expect("ready", "exec")


def _assert_readable(chain: Chain) -> None:
    for number in _ids(chain):
        with chain.reader(number) as reader:
            for _ in reader.blocks():
                pass


@pytest.mark.parametrize("phase", [phase for phase in PHASES if phase != "arm"])
def test_exit_between_keyframe_and_delta(phase: str, start: Start, chain: Chain) -> None:
    """The chain keeps its keyframe; the error says that the process has ended."""
    victim = start("leaver", MIB)
    with _checkpointing(victim, chain) as checkpointer:
        checkpointer.checkpoint()
        wire = Tripwire(phase, lambda: _leave(victim))
        with pytest.raises(TargetGone, match=str(victim.pid)):
            checkpointer.checkpoint(progress=wire)
        assert wire.sprung
        with pytest.raises(TargetGone):
            checkpointer.checkpoint()
    assert _ids(chain) == [1]
    _assert_readable(chain)


@pytest.mark.parametrize("phase", PHASES)
def test_exit_in_the_first_checkpoint(phase: str, start: Start, chain: Chain) -> None:
    """No layer comes into being."""
    victim = start("leaver", MIB)
    with _checkpointing(victim, chain) as checkpointer, pytest.raises(TargetGone):
        checkpointer.checkpoint(progress=Tripwire(phase, lambda: _leave(victim)))
    assert _ids(chain) == []


def test_exit_while_it_is_written(start: Start, chain: Chain) -> None:
    """The moment has been taken: the checkpoint is good although its process is gone."""
    victim = start("leaver", MIB)
    with _checkpointing(victim, chain) as checkpointer:
        checkpointer.checkpoint(progress=Tripwire("write", lambda: _leave(victim)))
    with chain.reader() as reader, Victim.restored_from(reader) as restored:
        restored.expect("ok", "check")


@pytest.mark.parametrize("phase", ["arm", "pre-copy", "freeze"])
def test_exec_during_a_checkpoint(phase: str, start: Start, chain: Chain) -> None:
    """No mixture of two programs is ever kept; the new program is unharmed and the next checkpoint is of it."""
    victim = start("leaver", MIB)
    with _checkpointing(victim, chain) as checkpointer:
        wire = Tripwire(phase, lambda: _execute(victim))
        try:
            checkpointer.checkpoint(progress=wire)
        except TargetGone:
            assert _ids(chain) == []
        else:
            assert phase == "arm"  # nothing of the old program had been looked at yet
        victim.expect("ok", "check")
        checkpointer.checkpoint()
        checkpointer.checkpoint()
    victim.kill()
    for number in _ids(chain):
        with chain.reader(number) as reader, Victim.restored_from(reader) as restored:
            restored.expect("ok", "check")


def test_exec_between_checkpoints(start: Start, chain: Chain) -> None:
    """Each link is one program, whole: the one before and the one after."""
    victim = start("leaver", MIB)
    with _checkpointing(victim, chain) as checkpointer:
        checkpointer.checkpoint()
        _execute(victim)
        for _ in range(2):
            try:
                checkpointer.checkpoint()
            except TargetGone:
                checkpointer.checkpoint()
    victim.kill()
    for number in _ids(chain):
        with chain.reader(number) as reader, Victim.restored_from(reader) as restored:
            restored.expect("ok", "check")


def test_killed_at_any_instant(chain: Chain) -> None:
    """SIGKILL for the target within a few milliseconds of the freeze: TargetGone or a whole layer, never a hang."""
    dice = random.Random(os.environ.get("ICECORE_SEED", "20"))
    for _ in range(40):
        with Victim.start([c_program("threads")]) as victim, _checkpointing(victim, chain) as checkpointer:
            links = len(_ids(chain))
            killer = _Killer(victim.pidfd, dice.uniform(0, 0.006))
            try:
                checkpointer.checkpoint(progress=Tripwire(dice.choice(("arm", "freeze")), killer.start))
            except TargetGone:
                assert len(_ids(chain)) == links
            else:
                assert len(_ids(chain)) == links + 1
            killer.join()
            assert victim.wait() == -signal.SIGKILL
    _assert_readable(chain)


class _Killer(threading.Thread):
    """Kills by pidfd after a time that it burns."""

    def __init__(self, pidfd: int, delay: float) -> None:
        super().__init__()
        self._pidfd = pidfd
        self._delay = delay

    def run(self) -> None:
        end = time.perf_counter() + self._delay
        while time.perf_counter() < end:
            pass
        signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)


def test_pid_reused_for_another_program(start: Start, chain: Chain) -> None:
    """Another program has the pid now: it is not taken for the target, and nothing is done to it."""
    victim = start("leaver", MIB)
    with _checkpointing(victim, chain) as checkpointer:
        checkpointer.checkpoint()
        victim.kill()
        with _child_with_pid(victim.pid) as other, pytest.raises(TargetGone, match=str(victim.pid)):
            checkpointer.checkpoint()
        assert other == [0]
    assert _ids(chain) == [1]


@contextmanager
def _child_with_pid(pid: int) -> Generator[list[int]]:
    """A child of that pid, which ends with status 0 when the context does."""
    statuses: list[int] = []
    gate_read, gate_write = os.pipe()
    child = _fork_as(pid, gate_read, gate_write)
    os.close(gate_read)
    try:
        yield statuses
    finally:
        os.close(gate_write)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def _fork_as(pid: int, gate_read: int, gate_write: int) -> int:
    """Set the kernel's last pid and fork, until nobody else was quicker."""
    for _ in range(1000):
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1), encoding="ascii")
        child = os.fork()
        if child == 0:
            if os.getpid() == pid:
                os.close(gate_write)
                select.select([gate_read], [], [], 60)
            os._exit(0)
        if child == pid:
            return child
        os.waitpid(child, 0)
    pytest.fail(f"pid {pid} was never free")
