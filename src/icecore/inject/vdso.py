# SPDX-License-Identifier: Apache-2.0
"""The vdso's unused tail: executable bytes in every process that nobody executes.

The image ends somewhere in its last page; what follows is zero. Our own, which the same kernel mapped, tells where.
"""

import functools
import os
from dataclasses import dataclass

import numpy as np

from icecore.errors import Busy, KernelLacks, TargetGone
from icecore.kernel.procfs import read_auxv, read_maps, read_stat

ALIGN = 16
AT_SYSINFO_EHDR = 33
PF_EXITING = 0x4
"""linux/sched.h: in the flags of /proc/PID/stat."""


@dataclass(frozen=True, slots=True)
class Vdso:
    """Where a process has its vdso, and its bytes."""

    start: int
    image: bytes

    @property
    def tail(self) -> int:
        """Offset of the first unused byte."""
        return -(-len(self.image.rstrip(b"\0")) // ALIGN) * ALIGN


@functools.cache
def own_vdso() -> Vdso:
    """This process's vdso: the pristine image."""
    return read_vdso(os.getpid())


def vdso_address(pid: int) -> int:
    """Where a process has its vdso, by its auxiliary vector (AT_SYSINFO_EHDR)."""
    words = np.frombuffer(read_auxv(pid), np.uint64)
    found = words[1::2][words[::2] == AT_SYSINFO_EHDR]
    if not words.any():
        raise _without_memory(pid)
    if not found.size:
        raise KernelLacks(f"process {pid} has no vdso", "icecore needs the vdso's unused tail to act inside a process")
    return int(found[0])


def _without_memory(pid: int) -> Busy | TargetGone:
    """Between two programs, or after the last one."""
    try:
        ending = read_stat(pid).flags & PF_EXITING
    except OSError:
        ending = PF_EXITING
    if ending:
        return TargetGone(f"process {pid} exited")
    return Busy(f"process {pid} is just starting a program", "try again")


def _vdso_size(pid: int, address: int) -> int:
    return next(vma.end - vma.start for vma in read_maps(pid) if vma.start == address)


def read_vdso(pid: int) -> Vdso:
    """Start and bytes of a process's vdso (/proc/PID/mem: needs the right to ptrace it)."""
    start = vdso_address(pid)
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        return Vdso(start, os.pread(memory.fileno(), _vdso_size(pid, start), start))
