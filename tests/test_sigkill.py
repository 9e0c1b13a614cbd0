# SPDX-License-Identifier: Apache-2.0
"""Whoever checkpoints is killed at any instant by SIGKILL: the victim is unharmed, the chain whole."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.harm import Body, examine, tracer, vdso_image_length
from support.programs import c_program, go_program, python_program
from support.victim import Victim

from icecore.storage.chain import Chain
from icecore.storage.store import Store

KILLS = 55
"""For each victim: 220 in all."""
PHASES = ("check", "arm", "pre-copy", "freeze", "write")
LOOP = Path(__file__).parent / "support" / "checkpoint_loop.py"
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Prey:
    """A victim; ``fixed``: its mappings never change by its own doing, so that they can be compared exactly."""

    name: str
    argv: Callable[[Path], Sequence[str | Path]]
    fixed: bool = True


PREY = [
    Prey("single-threaded", lambda _: [c_program("counter")]),
    Prey("eight threads", lambda _: [c_program("threads")]),
    Prey("CPython", lambda files: [*python_program("interpreter"), files], fixed=False),
    Prey("Go", lambda _: [go_program("gopher")], fixed=False),
]


class Loop:
    """The process that forks checkpointers (``support/checkpoint_loop.py``)."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def line(self) -> str:
        """Its next line."""
        assert self._process.stdout
        line = self._process.stdout.readline().decode().rstrip("\n")
        assert line, "the checkpointer ended by itself"
        return line

    def kill_one(self, phase: str, occurrence: int, delay: float, victim: Victim) -> bool:
        """Start a checkpointer; kill it ``delay`` seconds after it has entered that phase for the n-th time.

        Whether the victim was being traced a few microseconds before.
        """
        assert self._process.stdin
        self._process.stdin.write(b"go\n")
        pidfd = os.pidfd_open(int(self.line().split()[1]))
        while occurrence:
            line = self.line()
            assert not line.startswith("dead"), line
            occurrence -= line == phase
        _spin(delay)
        traced = tracer(victim.pid) != 0
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
        while not (line := self.line()).startswith("dead"):
            pass
        assert line == "dead -9"
        return traced


def _spin(seconds: float) -> None:
    """Burn the time: a sleep would end at a timer's tick, not at any instant."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


@contextmanager
def _loop(store: Path, pid: int) -> Generator[Loop]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, LOOP, store, "victim", str(pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        bufsize=0,
    ) as process:
        loop = Loop(process)
        try:
            assert loop.line() == "ready"
            yield loop
        finally:
            assert process.stdin
            process.stdin.close()


def _choose(dice: random.Random) -> tuple[str, int, float]:
    """Mostly where something is done to the victim: within 3 ms after ``arm`` and ``freeze`` were announced."""
    phase = dice.choices(PHASES, weights=(1, 4, 2, 6, 2))[0]
    occurrence = 1 if phase == "arm" else dice.randint(1, 3)
    longest = 0.003 if dice.random() < 0.6 else 0.020
    return phase, occurrence, dice.uniform(0, longest)


def _assert_unharmed(prey: Prey, before: Body, victim: Victim, vdso_length: int) -> None:
    victim.expect("ok", "check")  # by now whatever was injected has run out
    after = examine(victim.pid, vdso_length)
    assert after.tracer == 0
    assert after.state in "RSD"
    assert after.fds == before.fds
    assert after.code == before.code
    if prey.fixed:
        assert after.mappings == before.mappings


def _assert_whole(chain: Chain, before: int) -> int:
    """The chain can be read and has not lost a link; the newest layer's bytes are what its hashes say."""
    layers = chain.layers()
    assert len(layers) >= before
    if layers:
        with chain.reader() as reader:
            for _ in reader.blocks():
                pass
    return len(layers)


@pytest.mark.slow
@pytest.mark.parametrize("prey", PREY, ids=lambda prey: prey.name)
def test_checkpointer_is_killed_at_random(prey: Prey, tmp_path: Path) -> None:
    """After each kill the victim checks itself and is examined; at the end the newest layer is restored."""
    seed = int(os.environ.get("ICECORE_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"ICECORE_SEED={seed}")
    dice = random.Random(f"{seed} {prey.name}")
    files = tmp_path / "files"
    files.mkdir()
    chain = Store.open(tmp_path / "store", create=True).create_chain("victim")
    with Victim.start(prey.argv(files)) as victim:
        vdso_length = vdso_image_length(victim.pid)
        victim.expect("ok", "check")
        before = examine(victim.pid, vdso_length)
        links = traced = 0
        with _loop(tmp_path / "store", victim.pid) as loop:
            for number in range(KILLS):
                phase, occurrence, delay = _choose(dice)
                print(f"kill {number}: {phase} #{occurrence} + {delay * 1000:.3f} ms")
                traced += loop.kill_one(phase, occurrence, delay, victim)
                _assert_unharmed(prey, before, victim, vdso_length)
                links = _assert_whole(chain, links)
        print(f"{traced} of {KILLS} while the victim was stopped, {links} layers")
        assert links
        assert traced >= KILLS // 20
        victim.kill()
        with chain.reader() as reader, Victim.restored_from(reader) as restored:
            restored.expect("ok", "check")
