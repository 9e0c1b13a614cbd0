# SPDX-License-Identifier: Apache-2.0
"""One stopped thread: its state, and running it from one stop to the next."""

import os
import time
from collections.abc import Generator
from functools import cached_property

from icecore.errors import Busy, TargetGone
from icecore.kernel import ptrace
from icecore.kernel.arch.x86_64 import Registers
from icecore.kernel.procfs import read_bytes

SPIN_SECONDS = 0.0003
NAP_SECONDS = 0.00005


class Tracee:
    """A seized thread. Its methods work while it is stopped, from the thread that seized it."""

    def __init__(self, tid: int, deadline: float) -> None:
        self.tid = tid
        self.deadline = deadline
        """time.monotonic() after which waiting for a stop is given up."""

    @cached_property
    def status(self) -> bytes:
        """/proc/TID/status as it was when somebody first asked, which is while the thread is stopped: raw, since it is
        wanted for each of perhaps hundreds of threads. FileNotFoundError, ProcessLookupError: it is gone."""
        return read_bytes(self.tid, "status")

    def registers(self) -> Registers:
        """General registers, raw: a call that the stop interrupted shows -ERESTART* in rax."""
        return Registers.unpack(ptrace.get_registers(self.tid))

    def set_registers(self, registers: Registers) -> None:
        """Put general registers in place."""
        ptrace.set_registers(self.tid, registers.pack())

    def xstate(self) -> bytes:
        """FPU, SSE and AVX state (NT_X86_XSTATE)."""
        return ptrace.get_xstate(self.tid)

    def sigmask(self) -> int:
        """Blocked signals, bit n-1 for signal n."""
        return ptrace.get_sigmask(self.tid)

    def pending(self, *, shared: bool) -> list[bytes]:
        """Raw siginfo_t of the queued signals: the thread's own, or the process's."""
        return ptrace.peek_siginfo(self.tid, shared=shared)

    def rseq(self) -> ptrace.RseqConfiguration:
        """The registered rseq area; address 0 if there is none."""
        return ptrace.rseq_configuration(self.tid)

    def wait(self) -> ptrace.Stop:
        """The next stop. Polls, since a blocking wait could neither time out nor keep the GIL from other threads."""
        spin_until = time.monotonic() + SPIN_SECONDS
        while True:
            try:
                stop = ptrace.stopped(self.tid)
            except ChildProcessError:
                raise TargetGone(f"thread {self.tid} ended while it was being stopped") from None
            if stop is not None:
                return stop
            now = time.monotonic()
            if now > self.deadline:
                raise Busy(
                    f"thread {self.tid} does not stop (uninterruptible sleep, or waiting for a vfork child)",
                    "try again later; `cat /proc/PID/task/TID/stack` as root says where it waits",
                )
            if now < spin_until:
                os.sched_yield()
            else:
                time.sleep(NAP_SECONDS)

    def wait_interrupted(self) -> None:
        """Wait for the stop that PTRACE_INTERRUPT asked for; signals that come first are delivered.

        A delivered signal only sets up its handler's frame: the pending interrupt stops the thread again before it
        executes anything.
        """
        while True:
            stop = self.wait()
            if stop.event == ptrace.PTRACE_EVENT_STOP:
                return
            ptrace.cont(self.tid, stop.signal if stop.is_signal else 0)

    def run_syscall(self) -> None:
        """Through the next system call of the injected program: ``syscall_steps`` without a pause."""
        for _ in self.syscall_steps():
            pass

    def syscall_steps(self) -> Generator[None]:
        """To the entry of the next system call, then to a stop right behind it, inside the kernel's signal handling.

        That place matters: registers set there, with the raw result of an earlier interrupted call in them, are treated
        by the kernel as if nothing had come between. All signals are blocked meanwhile: only group stops intervene.
        Pauses wherever the thread has been let go and must be waited for.
        """
        ptrace.cont_to_syscall(self.tid)
        yield
        while not self.wait().is_syscall:
            ptrace.cont_to_syscall(self.tid)
        ptrace.interrupt(self.tid)
        ptrace.cont(self.tid)
        yield
        self.wait_interrupted()
