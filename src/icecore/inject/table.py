# SPDX-License-Identifier: Apache-2.0
"""Many system calls inside a target in one go, from a table in a scratch mapping that exists only meanwhile."""

import os
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

from icecore.errors import Busy, CannotRestore
from icecore.inject import code
from icecore.inject.freeze import Frozen
from icecore.inject.memory import TargetMemory
from icecore.inject.tracee import Tracee
from icecore.inject.trampoline import entry_registers
from icecore.kernel import ptrace
from icecore.kernel.arch.x86_64 import SYS_mmap, signed

PROT_READ_WRITE = 3
MAP_PRIVATE_ANONYMOUS = 0x22
PAGE = 4096


@dataclass(frozen=True, slots=True)
class Data:
    """An argument: the address of this offset in the table's data area."""

    offset: int


@dataclass(frozen=True, slots=True)
class Call:
    """A system call: its number and up to six arguments."""

    number: int
    arguments: tuple[int | Data, ...] = ()


@dataclass(frozen=True, slots=True)
class TableResult:
    """Each call's raw result (negative: -errno), and the data area as the calls left it."""

    values: list[int]
    data: bytes


def run_table(frozen: Frozen, tracee: Tracee, calls: Sequence[Call], data: bytes) -> TableResult:
    """Run ``calls`` in one thread of a frozen process; ``data`` is the initial content of the data area.

    Nothing of it is left in the target afterwards, also if this process dies half-way. Raises CannotRestore when the
    target may not map a scratch page (its address space is at its limit).
    """
    area, memory = _Area(len(calls), len(data)), frozen.trampoline.memory
    entry = entry_registers(
        tracee.registers(), SYS_mmap, 0, area.length, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, NO_FD, 0
    )
    with frozen.trampoline.visit(tracee, entry, lambda end: code.table_program(end, area.length)):
        tracee.wait_syscall_entry()
        tracee.finish_syscall()
        base = tracee.registers().result
        if base < 0:
            raise CannotRestore(
                f"process {frozen.pid} cannot map {area.length} more bytes: {os.strerror(-base)}",
                "raise its limit of address space (prlimit --as)",
            )
        area.write(memory, base, calls, data)
        ptrace.cont(tracee.tid)
        area.wait_done(memory, base, tracee)
        result = area.read(memory, base)
        ptrace.interrupt(tracee.tid)
        tracee.wait_interrupted()
        tracee.wait_syscall_entry()  # munmap
        tracee.finish_syscall()
    return result


NO_FD = (1 << 64) - 1


class _Area:
    """The scratch mapping: head, entries, data."""

    def __init__(self, count: int, data_size: int) -> None:
        self.count = count
        self.data_offset = code.HEAD_SIZE + count * code.ENTRY.size
        self.data_size = data_size
        self.length = -(-(self.data_offset + data_size) // PAGE) * PAGE

    def write(self, memory: TargetMemory, base: int, calls: Sequence[Call], data: bytes) -> None:
        """The count goes last, by itself: until it is there the table is empty to whoever executes it."""
        entries = b"".join(self._entry(base, call) for call in calls)
        memory.write(base + code.HEAD_SIZE, entries + data)
        memory.write(base, struct.pack("<Q", self.count))

    def _entry(self, base: int, call: Call) -> bytes:
        words = [self._word(base, argument) for argument in call.arguments]
        return code.ENTRY.pack(call.number, *words, *[0] * (6 - len(words)), 0)

    def _word(self, base: int, argument: int | Data) -> int:
        value = base + self.data_offset + argument.offset if isinstance(argument, Data) else argument
        return value & NO_FD

    def wait_done(self, memory: TargetMemory, base: int, tracee: Tracee) -> None:
        give_up = min(tracee.deadline, time.monotonic() + code.PATIENCE_NS / 2e9)
        while not struct.unpack("<Q", memory.read(base + code.DONE_OFFSET, 8))[0]:
            if time.monotonic() > give_up:
                raise Busy(f"thread {tracee.tid} gets no processor time", "try again when the machine is less busy")
            os.sched_yield()

    def read(self, memory: TargetMemory, base: int) -> TableResult:
        raw = memory.read(base + code.HEAD_SIZE, self.count * code.ENTRY.size + self.data_size)
        entries = raw[: self.count * code.ENTRY.size]
        return TableResult([signed(entry[7]) for entry in code.ENTRY.iter_unpack(entries)], raw[len(entries) :])
