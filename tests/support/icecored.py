# SPDX-License-Identifier: Apache-2.0
"""A daemon for a test: its own process, store and socket; what it says is read, not slept for."""

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from icecore.varlink.client import Client

SECONDS = 60.0
"""More than anything here takes: only a hang runs into it."""
ROOT = Path(__file__).resolve().parents[2]
FAKE = Path(__file__).with_name("fake_icecored.py")
NOBODY = 65534


class Icecored:
    """A running daemon. Leaving the context kills and reaps it; ``directory`` holds store, socket and gate."""

    def __init__(self, directory: Path, *, real: bool = False) -> None:
        self.directory = directory
        self.store = directory / "store"
        self.socket = directory / "icecore.sock"
        self.gate = directory / "gate"
        if not self.gate.exists():
            os.mkfifo(self.gate)
        program = ["-m", "icecore.daemon.service"] if real else [str(FAKE)]
        self.process = subprocess.Popen(
            [sys.executable, *program, "--store", str(self.store), "--socket", str(self.socket)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            bufsize=0,
        )
        self.output = ""
        """Everything it has said so far, logs included."""
        self._seen = 0

    def __enter__(self) -> Self:
        try:
            self.wait_for(r"^listening on ")
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdout
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        if error is not None:
            print(self.output)  # pytest shows it with the failure

    def client(self) -> Client:
        """A connection of ours."""
        return Client(self.socket, timeout=SECONDS)

    def client_of(self, uid: int) -> Client:
        """A connection of another user."""
        with acting_as(uid):
            return self.client()

    def raw(self) -> socket.socket:
        """A connection for bytes."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(SECONDS)
        connection.connect(str(self.socket))
        return connection

    def wait_for(self, pattern: str) -> str:
        """The next line of output, after the last one that was waited for, in which ``pattern`` is found."""
        deadline = time.monotonic() + SECONDS
        while not (match := re.compile(pattern, re.MULTILINE).search(self.output, self._seen)):
            if not self._read(deadline):
                raise AssertionError(f"icecored ended without saying {pattern!r}: {self.output}")
        end = self.output.find("\n", match.end())
        self._seen = len(self.output) if end < 0 else end
        return self.output[self.output.rfind("\n", 0, match.start()) + 1 : self._seen]

    def end(self) -> int:
        """Its exit status, once it has ended; all its output is read."""
        while self._read(time.monotonic() + SECONDS):
            pass
        return self.process.wait(SECONDS)

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.end()

    @contextmanager
    def at_gate(self) -> Generator[None]:
        """While open, a slow engine waits; it is there when this begins."""
        fd = os.open(self.gate, os.O_WRONLY)
        try:
            yield
        finally:
            os.close(fd)

    def _read(self, deadline: float) -> bool:
        assert self.process.stdout
        ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise AssertionError(f"icecored is silent: {self.output}")
        data = os.read(self.process.stdout.fileno(), 65536)
        self.output += data.decode(errors="replace")
        return bool(data)


@contextmanager
def acting_as(uid: int) -> Generator[None]:
    """Effective uid and gid of another user, which is what SO_PEERCRED tells of a connect made meanwhile."""
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
