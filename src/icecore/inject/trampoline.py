# SPDX-License-Identifier: Apache-2.0
"""The place in a target where injected code lies for the moment of its use."""

from collections.abc import Generator
from contextlib import contextmanager, suppress

from icecore.errors import KernelLacks, NotPermitted, TargetGone
from icecore.inject import code
from icecore.inject.memory import TargetMemory
from icecore.inject.tracee import Tracee
from icecore.inject.vdso import own_vdso, vdso_address
from icecore.kernel import ptrace
from icecore.kernel.arch.x86_64 import NO_SYSCALL, Registers
from icecore.kernel.procfs import read_bytes

ALL_SIGNALS = (1 << 64) - 1


class Trampoline:
    """The zero tail of the target's vdso, written through /proc/PID/mem and zeroed again after use."""

    def __init__(self, pid: int) -> None:
        own = own_vdso()
        start = vdso_address(pid)
        self.address = start + own.tail
        self.room = len(own.image) - own.tail
        self.memory = TargetMemory(pid)
        self._pid = pid
        self._written = 0
        self._checked = False
        self._require_same(self.memory.read(start, own.tail), own.image[: own.tail])

    def _require_same(self, theirs: bytes, own: bytes) -> None:
        if theirs != own:
            self.close()
            raise KernelLacks(
                f"the vdso of process {self._pid} is not this kernel's",
                "it was restored from another kernel: stop it and start it anew",
            )

    def holds(self, address: int) -> bool:
        """Whether an instruction pointer lies in the tail."""
        return self.address <= address < self.address + self.room

    def write(self, program: bytes) -> None:
        """Put a program into the tail."""
        if len(program) > self.room:
            raise KernelLacks(f"the vdso leaves {self.room} bytes, {len(program)} are needed")
        self._written = max(self._written, len(program))
        self.memory.write(self.address, program)
        if not self._checked:
            self.memory.require_current(self.address, program)
            self._checked = True

    def close(self) -> None:
        """Zero what was written, while nobody can be inside (all threads stopped elsewhere)."""
        written, self._written = self._written, 0
        if written:
            with suppress(TargetGone):
                self.memory.write(self.address, bytes(written))
        self.memory.close()

    @contextmanager
    def visit(self, tracee: Tracee, entry: Registers, program: code.Program) -> Generator[None]:
        """Inside the block the thread is about to execute ``program(end)`` with ``entry``'s registers; after it, it is
        back where it was.

        The order is what keeps the thread safe if we die: first the program that ends in the original state, then the
        registers that start it, then the blocked signals that it unblocks; and backwards at the end.
        """
        registers, sigmask = tracee.registers(), tracee.sigmask()
        with _seccomp_suspended(self._pid, tracee):
            self.write(program(code.leave(registers, sigmask)))
            entry.rip, entry.orig_rax, entry.rsp = self.address, NO_SYSCALL, registers.rsp
            tracee.set_registers(entry)
            ptrace.set_sigmask(tracee.tid, ALL_SIGNALS)
            try:
                yield
            except BaseException:
                with suppress(OSError):
                    self._go_back(tracee, registers, sigmask)
                raise
            self._go_back(tracee, registers, sigmask)

    def _go_back(self, tracee: Tracee, registers: Registers, sigmask: int) -> None:
        """Back to where the thread was; if it does not answer, the code must stay, for it may still be in there."""
        written, self._written = self._written, 0
        ptrace.set_sigmask(tracee.tid, sigmask)
        tracee.set_registers(registers)
        self._written = written


def entry_registers(base: Registers, number: int, *arguments: int) -> Registers:
    """Registers that make a system call; segment bases and flags stay the thread's."""
    entry = Registers.unpack(base.pack())
    names = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
    for name, value in zip(names, (*arguments, 0, 0, 0, 0, 0, 0), strict=False):
        setattr(entry, name, value & NO_SYSCALL)
    entry.rax = number
    return entry


def _under_seccomp(pid: int, tid: int) -> bool:
    """Read at each visit, since each thread has its own filters; by hand, since the target waits."""
    return b"\nSeccomp:\t0" not in read_bytes(pid, f"task/{tid}/status")


@contextmanager
def _seccomp_suspended(pid: int, tracee: Tracee) -> Generator[None]:
    """Filters of the target must neither see nor kill for our calls."""
    if not _under_seccomp(pid, tracee.tid):
        yield
        return
    try:
        ptrace.set_options(tracee.tid, ptrace.PTRACE_O_TRACESYSGOOD | ptrace.PTRACE_O_SUSPEND_SECCOMP)
    except OSError:
        raise NotPermitted(
            f"process {pid} runs under seccomp, and suspending its filter is not permitted",
            "run icecore as root, itself not under seccomp (no SystemCallFilter= in its unit)",
        ) from None
    try:
        yield
    finally:
        ptrace.set_options(tracee.tid, ptrace.PTRACE_O_TRACESYSGOOD)
