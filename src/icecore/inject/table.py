# SPDX-License-Identifier: Apache-2.0
"""Many system calls inside a target in one go, from a table in a scratch mapping that exists only meanwhile."""

import os
import struct
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

import numpy as np

from icecore.errors import Busy, CannotRestore
from icecore.inject import code
from icecore.inject.freeze import Frozen
from icecore.inject.memory import TargetMemory
from icecore.inject.tracee import Tracee
from icecore.kernel import ptrace
from icecore.kernel.arch.x86_64 import SYS_mmap

PROT_READ_WRITE = 3
MAP_PRIVATE_ANONYMOUS = 0x22
PAGE = 4096
NO_FD = (1 << 64) - 1


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


class Table:
    """Calls for one thread and the initial content of the data area that they may use, laid out as in the scratch
    mapping: head, entries, data. Any number of threads may run it, any number of times."""

    def __init__(self, calls: Sequence[Call], data: bytes = b"") -> None:
        self.count = len(calls)
        self._data = data
        self._data_offset = code.HEAD_SIZE + self.count * code.ENTRY.size
        self.length = -(-(self._data_offset + len(data)) // PAGE) * PAGE
        words = [[call.number, *call.arguments, *[0] * (7 - len(call.arguments))] for call in calls]
        self._relative = np.array([[isinstance(word, Data) for word in row] for row in words], np.bool_)
        self._words = np.array([[self._word(word) for word in row] for row in words], np.uint64)

    def _word(self, word: int | Data) -> int:
        return self._data_offset + word.offset if isinstance(word, Data) else word & NO_FD

    def write(self, memory: TargetMemory, base: int) -> None:
        """The count goes last, by itself: until it is there the table is empty to whoever executes it."""
        words = self._words.copy()
        words[self._relative] += np.uint64(base)
        memory.write(base + code.HEAD_SIZE, words.tobytes() + self._data)
        memory.write(base, struct.pack("<Q", self.count))

    def wait_done(self, memory: TargetMemory, base: int, tracee: Tracee) -> None:
        """Until the target has made all calls. Raises Busy."""
        give_up = min(tracee.deadline, time.monotonic() + code.PATIENCE_NS / 2e9)
        while not struct.unpack("<Q", memory.read(base + code.DONE_OFFSET, 8))[0]:
            if time.monotonic() > give_up:
                raise Busy(f"thread {tracee.tid} gets no processor time", "try again when the machine is less busy")
            os.sched_yield()

    def read(self, memory: TargetMemory, base: int) -> TableResult:
        """What has become of it."""
        raw = memory.read(base + code.HEAD_SIZE, self.count * code.ENTRY.size + len(self._data))
        entries = np.frombuffer(raw, np.int64, self.count * 8).reshape(-1, 8)
        return TableResult(entries[:, 7].tolist(), raw[self.count * code.ENTRY.size :])


def run_table(frozen: Frozen, tracee: Tracee, calls: Sequence[Call], data: bytes) -> TableResult:
    """``run_tables`` for one thread."""
    return run_tables(frozen, [(tracee, Table(calls, data))])[0]


def run_tables(frozen: Frozen, tables: Sequence[tuple[Tracee, Table]]) -> list[TableResult]:
    """Run each table in its thread of a frozen process, side by side as far as there is room for their code.

    Nothing of it is left in the target afterwards, also if this process dies half-way. Raises CannotRestore when the
    target may not map a scratch page (its address space is at its limit).
    """
    results: list[TableResult] = []
    at_once = max(1, frozen.trampoline.slots)
    for first in range(0, len(tables), at_once):
        results += _side_by_side([_Run(frozen, *one) for one in tables[first : first + at_once]])
    return results


def _side_by_side(runs: Sequence["_Run"]) -> list[TableResult]:
    """All of them from one wait to the next in turn, so that the threads are waited for together."""
    with ExitStack() as stack:
        steps = [stack.enter_context(closing(run.steps(slot))) for slot, run in enumerate(runs)]
        for _ in zip(*steps, strict=True):
            pass
    return [run.result for run in runs]


class _Run:
    """One table on its way through one thread."""

    def __init__(self, frozen: Frozen, tracee: Tracee, table: Table) -> None:
        self._frozen = frozen
        self._tracee = tracee
        self._table = table
        self.result = TableResult([], b"")

    def steps(self, slot: int) -> Generator[None]:
        """Pauses wherever the thread has been let go and must be waited for."""
        tracee, table, memory = self._tracee, self._table, self._frozen.trampoline.memory
        arguments = (0, table.length, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, NO_FD, 0)
        entry = code.SystemCall(SYS_mmap, arguments)
        with self._frozen.trampoline.visit(tracee, entry, lambda end: code.table_program(end, table.length), slot):
            yield from tracee.syscall_steps()
            base = self._mapped(tracee.registers().result)
            table.write(memory, base)
            ptrace.cont(tracee.tid)
            yield
            table.wait_done(memory, base, tracee)
            self.result = table.read(memory, base)
            ptrace.interrupt(tracee.tid)
            yield
            tracee.wait_interrupted()
            yield from tracee.syscall_steps()  # munmap

    def _mapped(self, base: int) -> int:
        if base < 0:
            raise CannotRestore(
                f"process {self._frozen.pid} cannot map {self._table.length} more bytes: {os.strerror(-base)}",
                "raise its limit of address space (prlimit --as)",
            )
        return base
