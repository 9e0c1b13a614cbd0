# SPDX-License-Identifier: Apache-2.0
"""One run of the checkpoint benchmark: a victim that writes, an engine beside it, and what both of them measured."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.programs import c_program
from support.victim import Victim

from icecore.storage.store import Store

HERE = Path(__file__).resolve().parent
PAGE = 4096


@dataclass(frozen=True, slots=True)
class Load:
    """What the victim does."""

    mebibytes: int
    pages_per_second: int
    checkpoints: int
    interval: float
    """Seconds from one checkpoint to the next."""


@dataclass(slots=True)
class Run:
    """The figures of one run: pauses in microseconds, sizes in bytes."""

    keyframe_seconds: float = 0.0
    keyframe_bytes: int = 0
    pauses: list[int] = field(default_factory=list[int])
    gaps: list[int] = field(default_factory=list[int])
    """The longest time, by its own clock, for which the victim did not run while a checkpoint was taken."""
    noise: list[int] = field(default_factory=list[int])
    """The same over as long a time without a checkpoint."""
    seconds: list[float] = field(default_factory=list[float])
    stored: list[int] = field(default_factory=list[int])
    written: list[int] = field(default_factory=list[int])
    rounds: list[int] = field(default_factory=list[int])
    restore_seconds: float = 0.0
    peak_rss: int = 0
    tracker: str = ""


class Engine:
    """``engine.py`` for one victim."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def answer(self) -> dict[str, Any]:
        """The next JSON object."""
        assert self._process.stdout
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def checkpoint(self) -> dict[str, Any]:
        """One checkpoint."""
        assert self._process.stdin
        self._process.stdin.write("checkpoint\n")
        self._process.stdin.flush()
        return self.answer()


@contextlib.contextmanager
def _engine(store: Path, pid: int) -> Generator[Engine]:
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent / "src")}
    command = [sys.executable, str(HERE / "engine.py"), str(store), str(pid)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        engine = Engine(process)
        engine.answer()
        yield engine
        assert process.stdin
        process.stdin.close()


def longest_gap(victim: Victim) -> int:
    """Microseconds; the victim's memory of its gaps begins anew."""
    return int(victim.expect("gaps", "gaps").split()[0]) // 1000


def one_run(load: Load, store: Path) -> Run:
    """A keyframe, the deltas at their interval, then the kill and the restore of the newest."""
    run = Run()
    with Victim.start([c_program("writer"), str(load.mebibytes), str(load.pages_per_second)]) as victim:
        with _engine(store, victim.pid) as engine:
            _take_keyframe(engine, run)
            for _ in range(load.checkpoints):
                _take_delta(engine, victim, load, run)
        victim.expect("ok", "check")
        victim.kill()
        _restore(store, run)
    return run


def _take_keyframe(engine: Engine, run: Run) -> None:
    report = engine.checkpoint()
    run.keyframe_seconds, run.keyframe_bytes = report["seconds"], report["bytes_written"]
    run.tracker = report["tracker"]
    engine.checkpoint()  # what was written during the keyframe; not measured: it took longer than an interval


def _take_delta(engine: Engine, victim: Victim, load: Load, run: Run) -> None:
    """The victim works for an interval; its gaps are asked for half-way, right before and right after."""
    begin = time.monotonic()
    time.sleep(load.interval / 2)
    longest_gap(victim)
    time.sleep(max(0.0, begin + load.interval - time.monotonic()))
    run.noise.append(longest_gap(victim))
    report = engine.checkpoint()
    run.gaps.append(longest_gap(victim))
    run.pauses.append(report["pause_us"])
    run.seconds.append(report["seconds"])
    run.stored.append(report["pages_stored"] * PAGE)
    run.written.append(report["bytes_written"])
    run.rounds.append(report["rounds"])
    run.peak_rss = report["peak_rss"]


def _restore(store: Path, run: Run) -> None:
    """From the chain to the first answer of the restored victim."""
    chain = Store.open(store).chain("bench")
    begin = time.perf_counter()
    with chain.reader() as reader, Victim.restored_from(reader) as restored:
        restored.expect("ok", "check")
        run.restore_seconds = time.perf_counter() - begin
