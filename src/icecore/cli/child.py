# SPDX-License-Identifier: Apache-2.0
"""A process that is our child: started or restored, signalled by pidfd, reaped once."""

import os
import select
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from icecore.errors import UsageError

STDERR = 2
_WALL = 0x40000000
"""__WALL of linux/wait.h: whatever signal the child sends when it ends."""


@dataclass(slots=True)
class Child:
    """One child process."""

    pid: int
    pidfd: int
    status: int | None = None
    """The wait status, once it is known."""

    @classmethod
    def start(cls, command: Sequence[str]) -> Self:
        """Starts a program with our standard streams and environment and no other descriptor, in a session of its own.

        Of its own, so that a Ctrl-C on the terminal reaches us alone (we decide what becomes of the job), and so that
        a restore can give it the same session and process group again.
        """
        program = shutil.which(command[0])
        if program is None:
            raise UsageError(f"there is no program {command[0]}", "give a path, or a program that $PATH leads to")
        # Python ignores two signals that other programs expect to be killed by; an ignored signal survives exec.
        reset = (signal.SIGPIPE, signal.SIGXFSZ)
        try:
            closing = [(os.POSIX_SPAWN_CLOSE, fd) for fd in _passed_on()]
            pid = os.posix_spawn(program, list(command), os.environ, file_actions=closing, setsid=True, setsigdef=reset)
        except OSError as error:
            raise UsageError(f"cannot run {program}: {error.strerror}", "give an executable program") from None
        return cls(pid, os.pidfd_open(pid))

    def send(self, number: signal.Signals) -> None:
        """Sends a signal; nothing happens if the process has ended."""
        if self.status is None:
            try:
                signal.pidfd_send_signal(self.pidfd, number)
            except ProcessLookupError:
                return

    def has_ended(self) -> bool:
        """Whether it has, reaped or not. Reaps nothing: safe while another thread traces the process."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return self.status is not None or bool(poll.poll(0))

    def reap(self) -> int:
        """The wait status of a process that has ended. Not while it is being traced: that would steal the stops."""
        if self.status is None:
            try:
                _, self.status = os.waitpid(self.pid, _WALL)
            except ChildProcessError:
                # Killed at its last checkpoint: whoever traces a process reaps it, too, and we are the tracer.
                self.status = signal.SIGKILL
        return self.status

    def close(self) -> None:
        os.close(self.pidfd)


def _passed_on() -> list[int]:
    """What a program that we start would inherit beside the standard streams: left open by whoever started us, often
    pipes, which no checkpoint can hold."""
    return [fd for fd in map(int, os.listdir("/proc/self/fd")) if fd > STDERR and _is_inheritable(fd)]


def _is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False  # the one that listed the directory
