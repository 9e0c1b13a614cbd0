# SPDX-License-Identifier: Apache-2.0
"""``icecored`` with an engine that checkpoints nothing: for tests of the schedule and the socket.

Everything else is real: process, socket, store, targets. The name of a chain says how its engine behaves.
``STORE/../gate`` is a FIFO: an engine waits there until the test has opened it for writing and closed it again.
"""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

from icecore.daemon.service import program
from icecore.daemon.service.ports import Engine, Ports, Progress, Report, Wanted
from icecore.daemon.service.ports import Target as TargetPort
from icecore.daemon.target import Target
from icecore.errors import CannotRestore, TargetGone
from icecore.storage.chain import Chain


@dataclass(frozen=True, slots=True)
class FakeProgress:
    """A step of nothing."""

    phase: str
    done: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeReport:
    """A checkpoint of nothing."""

    name: str
    pid: int
    id: int
    kind: str = "keyframe"
    tracker: str = "fake"
    tracker_reason: str = "it is a fake"
    rounds: int = 1
    pause_us: int = 10
    pages_populated: int = 3
    pages_dirty: int = 2
    pages_stored: int = 1
    bytes_raw: int = 4096
    bytes_written: int = 100

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def ignore(progress: Progress) -> None:
    """Nobody listens."""
    del progress


class FakeEngine:
    """Does what the chain's name says, then reports success."""

    def __init__(self, target: TargetPort, chain: Chain, tracker: str) -> None:
        self._target, self._chain, self._tracker = target, chain, tracker
        self._taken, self._failed = 0, False
        self._gate = chain.directory.parent.parent.parent / "gate"

    def checkpoint(self, kill: bool = False, progress: Callable[[Progress], None] | None = None) -> Report:
        post = progress or ignore
        behaviour = self._chain.name.partition("-")[0]
        post(FakeProgress("pre-copy", 1, 2))
        if behaviour == "slow":
            self._wait_at_gate()
        if behaviour == "chatty":
            for step in range(20_000):
                post(FakeProgress("pre-copy", step, 20_000))
        if behaviour == "failing":
            raise CannotRestore("it holds a socket", "close it", ("fd 7: a socket",))
        if behaviour == "exec" and self._taken == 1 and not self._failed:
            self._failed = True
            raise TargetGone("it executed another program")
        if behaviour == "bug" and self._taken == 1:
            raise ZeroDivisionError("oh")
        post(FakeProgress("write", 2, 2))
        if kill:
            signal.pidfd_send_signal(self._target.pidfd, signal.SIGKILL)
        self._taken += 1
        return FakeReport(name=self._chain.name, pid=self._target.pid, id=self._taken, tracker=self._tracker)

    def close(self) -> None:
        print(f"closed {self._chain.name}", flush=True)

    def _wait_at_gate(self) -> None:
        fd = os.open(self._gate, os.O_RDONLY)
        os.read(fd, 1)
        os.close(fd)


def open_engine(target: TargetPort, chain: Chain, wanted: Wanted) -> Engine:
    """What ``icecore.daemon.service.real`` does, without effect."""
    if chain.name.startswith("refused"):
        raise CannotRestore("it holds a socket", "close it", ("fd 7: a socket",))
    return FakeEngine(target, chain, wanted.tracker)


if __name__ == "__main__":
    sys.exit(program.run(None, Ports(Target.open, open_engine)))
