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
from icecore.kernel.arch.x86_64 import Registers

ALL_SIGNALS = (1 << 64) - 1
SLOT = code.TABLE_PROGRAM_SIZE


class Trampoline:
    """The zero tail of the target's vdso, written through /proc/PID/mem and zeroed again after use."""

    def __init__(self, pid: int) -> None:
        own = own_vdso()
        start = vdso_address(pid)
        self.address = start + own.tail
        self.room = len(own.image) - own.tail
        self.memory = TargetMemory(pid)
        self._pid = pid
        self.slots = self.room // SLOT
        """How many programs of ``code.table_program`` have room side by side."""
        self._written = 0
        self._inside = 0
        """Threads that may be executing what was written."""
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

    def write(self, program: bytes, offset: int) -> None:
        """Put a program into the tail."""
        end = offset + len(program)
        if end > self.room:
            raise KernelLacks(f"the vdso leaves {self.room} bytes, {end} are needed")
        self._written = max(self._written, end)
        self.memory.write(self.address + offset, program)
        if not self._checked:
            self.memory.require_current(self.address + offset, program)
            self._checked = True

    def close(self) -> None:
        """Zero what was written, unless somebody may be inside still: a thread that did not answer."""
        written, self._written = self._written, 0
        if written and not self._inside:
            with suppress(TargetGone):
                self.memory.write(self.address, bytes(written))
        self.memory.close()

    @contextmanager
    def visit(self, tracee: Tracee, entry: code.SystemCall, program: code.Program, slot: int = 0) -> Generator[None]:
        """Inside the block the thread is about to execute ``program(end)`` with ``entry`` in its registers; after it,
        it is back where it was. Threads that visit at the same time need a slot each.

        The order is what keeps the thread safe if we die: first the program that ends in the original state, then the
        registers that start it, then the blocked signals that it unblocks; and backwards at the end.
        """
        registers, sigmask = tracee.registers(), tracee.sigmask()
        with _seccomp_suspended(self._pid, tracee):
            self.write(program(code.leave(registers, sigmask)), slot * SLOT)
            self._inside += 1
            tracee.set_registers(entry.registers(registers, self.address + slot * SLOT))
            ptrace.set_sigmask(tracee.tid, ALL_SIGNALS)
            try:
                yield
            except BaseException:
                with suppress(OSError):
                    self._go_back(tracee, registers, sigmask)
                raise
            self._go_back(tracee, registers, sigmask)

    def _go_back(self, tracee: Tracee, registers: Registers, sigmask: int) -> None:
        """Back to where the thread was; if it does not answer, it may still be in there."""
        ptrace.set_sigmask(tracee.tid, sigmask)
        tracee.set_registers(registers)
        self._inside -= 1


def _under_seccomp(tracee: Tracee) -> bool:
    """Asked at each visit, since each thread has its own filters."""
    return b"\nSeccomp:\t0" not in tracee.status


@contextmanager
def _seccomp_suspended(pid: int, tracee: Tracee) -> Generator[None]:
    """Filters of the target must neither see nor kill for our calls."""
    if not _under_seccomp(tracee):
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
