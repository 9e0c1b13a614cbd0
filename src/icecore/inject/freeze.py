# SPDX-License-Identifier: Apache-2.0
"""Stopping every thread of a process, and letting all of them go again whatever happens."""

import os
import signal
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from icecore.errors import Busy, NotPermitted, TargetGone
from icecore.inject.restart import make_restartable, waits_for_ever
from icecore.inject.tracee import Tracee
from icecore.inject.trampoline import Trampoline
from icecore.kernel import ptrace
from icecore.kernel.procfs import read_status, thread_ids

DEADLINE_SECONDS = 5.0


class Frozen:
    """A process with all threads stopped: the leader first. Made by ``freeze``; thaws at the end of its ``with``."""

    def __init__(self, pid: int, deadline_seconds: float) -> None:
        self.pid = pid
        self.threads: list[Tracee] = []
        self.started_ns = 0
        self.pause_us = 0
        """After thawing: from the first thread stopped to the last one resumed, microseconds."""
        self._deadline = time.monotonic() + deadline_seconds
        self._seized: dict[int, Tracee] = {}
        self._trampoline: Trampoline | None = None

    def _prepare(self) -> None:
        """Find the place for injected code before anything stops, so that it costs no pause."""
        try:
            self._trampoline = Trampoline(self.pid)
        except (FileNotFoundError, ProcessLookupError):
            raise TargetGone(f"process {self.pid} exited") from None

    @property
    def trampoline(self) -> Trampoline:
        """The place for injected code."""
        assert self._trampoline is not None, "not frozen"
        return self._trampoline

    @property
    def leader(self) -> Tracee:
        """The thread whose id is the pid."""
        return self.threads[0]

    def stop_all(self) -> None:
        """Seize and interrupt until no thread is left that runs: one not yet stopped may still make another."""
        while fresh := [tid for tid in self._thread_ids() if tid not in self._seized]:
            seized = [tracee for tid in fresh if (tracee := self._seize(tid))]
            self.started_ns = self.started_ns or time.monotonic_ns()
            for tracee in seized:
                with suppress(ProcessLookupError):  # ended since it was seized: there is nothing to wait for
                    ptrace.interrupt(tracee.tid)
            for tracee in seized:
                self._settle(tracee)
        self.threads = sorted(self._seized.values(), key=lambda tracee: tracee.tid != self.pid)
        if not self.threads or self.leader.tid != self.pid:
            raise TargetGone(f"process {self.pid} exited")

    def _thread_ids(self) -> list[int]:
        try:
            return thread_ids(self.pid)
        except (FileNotFoundError, ProcessLookupError):
            raise TargetGone(f"process {self.pid} exited") from None

    def _seize(self, tid: int) -> Tracee | None:
        try:
            ptrace.seize(tid, ptrace.PTRACE_O_TRACESYSGOOD)
        except ProcessLookupError:
            return None  # a thread that ended since it was listed
        except PermissionError:
            raise self._refused(tid) from None
        self._seized[tid] = tracee = Tracee(tid, self._deadline)
        return tracee

    def _refused(self, tid: int) -> Busy | NotPermitted | TargetGone:
        try:
            status = read_status(self.pid, tid)
        except OSError:
            return TargetGone(f"process {self.pid} exited")
        # A process that is just being killed refuses too, and its leader may be ours already.
        if status.state in ("Z", "X") or status.tracer_pid == threading.get_native_id():
            return TargetGone(f"process {self.pid} exited")
        if status.tracer_pid:
            tracer = f"process {status.tracer_pid} ({_name(status.tracer_pid)})"
            return Busy(f"process {self.pid} is traced by {tracer}", "detach that debugger first")
        return NotPermitted(f"the kernel does not let us trace process {self.pid}", "run as its owner or as root")

    def _settle(self, tracee: Tracee) -> None:
        """Wait for one thread's stop; one found in code that a dead tracer left behind runs on to its end first."""
        try:
            tracee.wait_interrupted()
            while self.trampoline.holds((registers := tracee.registers()).rip):
                ptrace.cont(tracee.tid)
                time.sleep(0.001)
                ptrace.interrupt(tracee.tid)
                tracee.wait_interrupted()
            if waits_for_ever(registers):
                tracee.set_registers(make_restartable(registers))
        except TargetGone:
            del self._seized[tracee.tid]
            if tracee.tid == self.pid:
                raise
            _bury_if_dead(tracee.tid)

    def thaw(self) -> None:
        """Let every thread go. Never raises: a thread that is gone needs nothing."""
        if self._trampoline is not None:
            self._trampoline.close()
        for tracee in self._seized.values():
            self._let_go(tracee)
        if self.started_ns and not self.pause_us:
            self.pause_us = self.elapsed_us()
        self._seized.clear()

    def _let_go(self, tracee: Tracee) -> None:
        """One that cannot be detached is dying, or does not stop: the end of this OS thread lets go of it."""
        with suppress(OSError):
            ptrace.detach(tracee.tid)

    def kill(self) -> None:
        """SIGKILL the target while it is frozen; its exit status is left for its parent."""
        os.kill(self.pid, signal.SIGKILL)
        # A dead thread that is traced stays until its tracer has seen it, and the leader with it.
        for tid in self._seized.keys() - {self.pid}:
            _bury(tid)
        self._seized.clear()
        self.pause_us = self.elapsed_us()

    def elapsed_us(self) -> int:
        """Microseconds since the first thread was told to stop."""
        return (time.monotonic_ns() - self.started_ns) // 1000

    def __enter__(self) -> Self:
        try:
            self._prepare()
            self.stop_all()
        except BaseException:
            self.thaw()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.thaw()
        if isinstance(error, ProcessLookupError):
            raise TargetGone(f"process {self.pid} was killed while it was frozen") from error


def _name(pid: int) -> str:
    try:
        return read_status(pid).name
    except OSError:
        return "?"


def _bury(tid: int) -> None:
    """Wait for the end of a killed thread."""
    with suppress(ChildProcessError):
        while (stop := ptrace.wait(tid)) and not stop.exited:
            pass


def _bury_if_dead(tid: int) -> None:
    """A thread that ended while it was traced stays until its tracer has seen it; the process cannot end before."""
    with suppress(ChildProcessError):
        ptrace.wait(tid, os.WNOHANG)


def freeze(pid: int, deadline_seconds: float = DEADLINE_SECONDS) -> Frozen:
    """Stop all threads of ``pid`` for the length of a ``with`` block.

    Raises TargetGone (it exited), Busy (traced by another, or a thread that does not stop within the deadline) and
    NotPermitted. Call it from an OS thread that ends soon after: the end of the thread lets go of whatever is left.
    """
    return Frozen(pid, deadline_seconds)
