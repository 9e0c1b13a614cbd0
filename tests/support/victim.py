# SPDX-License-Identifier: Apache-2.0
"""A victim: a real program that is checkpointed and restored while a test talks to it.

A victim reads one-line commands on fd 0 and answers each with one line on fd 1 (fd 2 is for its last words). All three
are pipes, so a restore gives it new ones and the conversation goes on: ``victim.restored_from(reader)``.
"""

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from icecore.restore.source import PageSource

ANSWER_SECONDS = 60.0
"""How long a victim may take to answer: far more than any of them needs, so that only a hang runs into it."""

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "1"}


class VictimError(AssertionError):
    """The victim died, hung, or found that something of its own is not what it was."""


@dataclass(slots=True)
class Streams:
    """The test's ends of the victim's standard streams."""

    stdin: int
    stdout: int
    stderr: int

    def close(self) -> None:
        for fd in (self.stdin, self.stdout, self.stderr):
            os.close(fd)


class Victim:
    """One running victim. Leaving the context kills it by its pidfd and reaps it."""

    def __init__(self, pid: int, pidfd: int, streams: Streams) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.streams = streams
        self.status: int | None = None
        """Exit status, negative for the signal that killed it; None while it runs."""
        self.greeting = ""
        """What followed the word ``ready``."""
        self._input = b""

    @classmethod
    def start(cls, argv: Sequence[str | Path], *, cwd: Path | None = None, user: int | None = None) -> Self:
        """Start a program and wait for its line ``ready PID``."""
        with subprocess.Popen(
            [os.fspath(word) for word in argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=ENVIRONMENT,
            bufsize=0,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        ) as process:
            pidfd = os.pidfd_open(process.pid)
            pipes = (process.stdin, process.stdout, process.stderr)
            streams = Streams(*(os.dup(pipe.fileno()) for pipe in pipes if pipe))
            process.returncode = 0  # from here on the victim is reaped through its pidfd alone
        victim = cls(process.pid, pidfd, streams)
        try:
            victim.greeting = victim.expect("ready")
        except BaseException:
            victim.close()
            raise
        return victim

    @classmethod
    def restored_from(cls, reader: "PageSource") -> Self:
        """Restore a checkpoint as a child of this process, with new pipes for its standard streams."""
        from icecore.restore import restore

        pipes = [os.pipe() for _ in range(3)]
        theirs = (pipes[0][0], pipes[1][1], pipes[2][1])
        streams = Streams(pipes[0][1], pipes[1][0], pipes[2][0])
        try:
            restored = restore(reader, stdio=theirs)
        except BaseException:
            streams.close()
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        return cls(restored.pid, restored.pidfd, streams)

    def ask(self, command: str, timeout: float = ANSWER_SECONDS) -> str:
        """Send a command and return the line that answers it; ``FAIL ...`` is raised."""
        self.tell(command)
        return self.line(timeout)

    def expect(self, word: str, command: str | None = None) -> str:
        """The answer (to a command, if one is given), which must begin with that word; returns what follows it."""
        answer = self.line() if command is None else self.ask(command)
        first, _, rest = answer.partition(" ")
        if first != word:
            raise VictimError(f"victim {self.pid} answered {answer!r}, expected {word!r}")
        return rest

    def tell(self, command: str) -> None:
        """Send a command without waiting for the answer."""
        try:
            os.write(self.streams.stdin, command.encode() + b"\n")
        except BrokenPipeError:
            raise VictimError(f"victim {self.pid} is gone: {self.last_words()}") from None

    def line(self, timeout: float = ANSWER_SECONDS) -> str:
        """The next line that the victim writes."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._input:
            self._read_more(deadline)
        line, _, self._input = self._input.partition(b"\n")
        if line.startswith(b"FAIL"):
            raise VictimError(f"victim {self.pid}: {line.decode()}{self.last_words()}")
        return line.decode()

    def _read_more(self, deadline: float) -> None:
        poll = select.poll()
        poll.register(self.streams.stdout, select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise VictimError(f"victim {self.pid} does not answer: {describe(self.pid)}{self.last_words()}")
        got = os.read(self.streams.stdout, 65536)
        if not got:
            raise VictimError(f"victim {self.pid} died, status {self.wait()}: {self.last_words()}")
        self._input += got

    def last_words(self) -> str:
        """What has arrived on the victim's standard error so far."""
        words = b""
        poll = select.poll()
        poll.register(self.streams.stderr, select.POLLIN)
        while poll.poll(0) and (got := os.read(self.streams.stderr, 65536)):
            words += got
        return words.decode(errors="replace")

    def is_running(self) -> bool:
        """Neither dead nor a zombie: the pidfd does not poll readable."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return self.status is None and not poll.poll(0)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal by the pidfd."""
        signal.pidfd_send_signal(self.pidfd, number)

    def wait(self, timeout: float = ANSWER_SECONDS) -> int:
        """Wait for the victim's end, reap it and return its status (negative: killed by that signal)."""
        if self.status is None:
            poll = select.poll()
            poll.register(self.pidfd, select.POLLIN)
            if not poll.poll(timeout * 1000):
                raise VictimError(f"victim {self.pid} does not end: {describe(self.pid)}")
            self.status = self._reap()
        return self.status

    def _reap(self) -> int:
        try:
            result = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        except ChildProcessError:  # killed by a checkpoint from this very process, which as its tracer has reaped it
            return -signal.SIGKILL
        assert result is not None
        return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status

    def kill(self) -> None:
        """Kill and reap the victim; nothing happens if it has ended already."""
        if self.status is None:
            self.signal(signal.SIGKILL)
            self.wait()

    def close(self) -> None:
        """Kill the victim and close everything that belongs to it."""
        self.kill()
        self.streams.close()
        os.close(self.pidfd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


Start = Callable[..., Victim]
"""The fixture ``start``: ``start("name", *words)`` for a C victim, ``start(argv)`` for any; killed after the test."""


def describe(pid: int) -> str:
    """State, wait channel and stack pointer of each thread: for the message of a test that failed."""
    lines: list[str] = []
    for task in sorted(Path(f"/proc/{pid}/task").glob("*")):
        try:
            stat = (task / "stat").read_text().rpartition(")")[2].split()[0]
            lines.append(f"{task.name} {stat} {(task / 'wchan').read_text()} {(task / 'syscall').read_text().strip()}")
        except OSError as error:
            lines.append(f"{task.name} {error.strerror}")
    return "; ".join(lines) or "no such process"
