# SPDX-License-Identifier: Apache-2.0
"""The stub: the new process while it is being made, seen by its tracer.

Everything happens in the OS thread that launched it. Until ``release`` the kernel kills it if we die, and ``kill``
removes it without a trace.
"""

import os
import signal
from contextlib import suppress

import numpy as np

from icecore.errors import CannotRestore
from icecore.inject.memory import peek, poke
from icecore.kernel import ptrace
from icecore.kernel.arch.x86_64 import NO_SYSCALL, Registers, signed
from icecore.kernel.pidfd import pidfd_open, pidfd_send_signal
from icecore.kernel.procfs import thread_ids
from icecore.restore.calls import Call, Calls, Table, tables
from icecore.restore.runner import (
    CODE_OFFSET,
    DATA_OFFSET,
    ENTRY,
    KEEP_OFFSET,
    KEEP_SIZE,
    REPORTED,
    RUNNER,
    TABLE_OFFSET,
    calls_made,
    runner_registers,
)

OPTIONS = ptrace.PTRACE_O_EXITKILL | ptrace.PTRACE_O_TRACESYSGOOD | ptrace.PTRACE_O_TRACECLONE
BLOCK_ALL = (1 << 64) - 1
_ALIGN = 16
_MAX_ERRNO = 4095


class Stub:
    """A traced and stopped process, all signals blocked, with a work area at ``work``."""

    def __init__(self, pid: int, work: int, syscall_at: int) -> None:
        self.pid = pid
        self.work = work
        self.syscall_at = syscall_at
        """Address of a ``syscall`` instruction for calls made one at a time."""
        self.threads = [pid]
        """All threads, the leader first, then in the order of their making."""
        self.pidfd = pidfd_open(pid)
        self._kept = 0

    def install(self) -> None:
        """Block every signal and put the runner into the work area."""
        ptrace.set_sigmask(self.pid, BLOCK_ALL)
        poke(self.pid, self.work + CODE_OFFSET, RUNNER)

    def keep(self, data: bytes) -> int:
        """Put data into the work area for as long as that exists; its address."""
        address = self.work + KEEP_OFFSET + self._kept
        self._kept += len(data) + -len(data) % _ALIGN
        if self._kept > KEEP_SIZE:
            raise CannotRestore(f"process {self.pid} has more state than the work area holds: {self._kept} bytes")
        poke(self.pid, address, data)
        return address

    def run(self, calls: Calls, tid: int | None = None) -> None:
        """Make the calls in a thread (the leader, if none is named); CannotRestore names the first that fails."""
        for table in tables(list(calls), self.work + DATA_OFFSET):
            if table.data:
                poke(self.pid, self.work + DATA_OFFSET, table.data)
            poke(self.pid, self.work + TABLE_OFFSET, table.entries)
            self._run_table(table, tid or self.pid)

    def _run_table(self, table: Table, tid: int) -> None:
        first = 0
        while first < len(table.calls):
            made = self._run_from(first, len(table.calls), tid)
            results = self._results(first, made)
            for call, result in zip(table.calls[first:made], results, strict=True):
                _check(call, result)
            first = made

    def _run_from(self, first: int, count: int, tid: int) -> int:
        now = Registers.unpack(ptrace.get_registers(tid))
        entry = runner_registers(now, self.work, count, self.pid, tid)
        entry.rbx += first * ENTRY.size
        ptrace.set_registers(tid, entry.pack())
        ptrace.cont(tid)
        return calls_made(self._wait_report(tid), self.work)

    def _wait_report(self, tid: int) -> Registers:
        while True:
            stop = self.wait(tid)
            if stop.event == ptrace.PTRACE_EVENT_CLONE:
                self.threads.append(ptrace.event_message(tid))
            elif stop.is_signal:
                registers = Registers.unpack(ptrace.get_registers(tid))
                if stop.signal == signal.SIGSTOP and registers.rip == self.work + REPORTED:
                    return registers
                if stop.signal != signal.SIGSTOP:
                    name = signal.Signals(stop.signal).name
                    raise CannotRestore(f"process {self.pid} got {name} at {registers.rip:#x} while it was being made")
            ptrace.cont(tid)

    def _results(self, first: int, made: int) -> list[int]:
        raw = peek(self.pid, self.work + TABLE_OFFSET + first * ENTRY.size, (made - first) * ENTRY.size)
        results: list[int] = np.frombuffer(raw, np.int64).reshape(-1, 8)[:, 7].tolist()
        return results

    def wait(self, tid: int) -> ptrace.Stop:
        """A thread's next stop; CannotRestore if it is dead."""
        stop = ptrace.wait(tid)
        assert stop is not None
        if stop.exited:
            how = f"signal {os.WTERMSIG(stop.status)}" if os.WIFSIGNALED(stop.status) else "it exited"
            raise CannotRestore(f"process {self.pid} died while it was being made: {how}")
        return stop

    def syscall(self, what: str, number: int, *arguments: int, tid: int | None = None) -> int:
        """One call, by system call stops and without the work area; ends like an interrupt, see ``settle``."""
        tid = tid or self.pid
        result = raw_syscall(tid, self.syscall_at, number, *arguments)
        _check(Call(what, number, arguments), result)
        self.settle(tid)
        return result

    def settle(self, tid: int) -> None:
        """Bring a thread from a system call stop to an interrupt stop.

        Only from there, and from the stop for a signal, does the kernel look at orig_rax again before it returns to
        user space, and so restarts (or ends with EINTR) the call that the checkpoint interrupted.
        """
        ptrace.interrupt(tid)
        ptrace.cont(tid)
        while not self.wait(tid).is_interrupt:
            ptrace.cont(tid)

    def release(self) -> None:
        """Let all threads go, the leader last.

        The first one to go may end the process before the last is let go (a pending signal, an exit_group); that is its
        own affair, but we must see the end of the others, or the leader stays a zombie that its parent cannot reap.
        """
        for tid in reversed(self.threads):
            try:
                ptrace.detach(tid)
            except ProcessLookupError:
                if tid != self.pid:
                    reap(tid)

    def kill(self) -> None:
        """Kill and reap every thread; nothing of the process remains."""
        with suppress(ProcessLookupError):
            pidfd_send_signal(self.pidfd, signal.SIGKILL)
        tids = set(self.threads)
        with suppress(OSError):
            tids.update(thread_ids(self.pid))
        for tid in sorted(tids, key=lambda tid: tid == self.pid):
            reap(tid)
        os.close(self.pidfd)


def reap(tid: int) -> None:
    """Wait for the end of a killed tracee or child."""
    with suppress(ChildProcessError):
        while (stop := ptrace.wait(tid)) is not None and not stop.exited:
            pass


def raw_syscall(tid: int, address: int, number: int, *arguments: int) -> int:
    """Make a call in a stopped tracee with the ``syscall`` instruction at ``address``; the raw result.

    The tracee is left in the exit stop, its registers not put back.
    """
    six = [a & BLOCK_ALL for a in (*arguments, 0, 0, 0, 0, 0, 0)[:6]]
    now = Registers.unpack(ptrace.get_registers(tid))
    now.rip, now.rax, now.orig_rax = address, number, NO_SYSCALL
    now.rdi, now.rsi, now.rdx, now.r10, now.r8, now.r9 = six
    ptrace.set_registers(tid, now.pack())
    seen = 0
    while seen < 2:
        ptrace.cont_to_syscall(tid)
        stop = ptrace.wait(tid)
        if stop is None or stop.exited:
            raise CannotRestore(f"process {tid} died while it was being made")
        seen += stop.is_syscall
    return signed(Registers.unpack(ptrace.get_registers(tid)).rax)


def _check(call: Call, result: int) -> None:
    if -_MAX_ERRNO <= result < 0:
        if -result not in call.tolerate:
            raise CannotRestore(f"cannot {call.what}: {os.strerror(-result)}")
    elif call.expect is not None and result != call.expect:
        raise CannotRestore(f"cannot {call.what}: the result is {result}, not {call.expect}")
