# SPDX-License-Identifier: Apache-2.0
"""The victim ``hands``: memory operations by name, from the test."""

import mmap
import os
import struct
from pathlib import Path

from support.memory import PAGE
from support.victim import Victim

from icecore.kernel.arch import x86_64 as nr

PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
SHARED = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS
NONE, R, RW = 0, mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE
MAP_FIXED = 0x10
MREMAP_MAYMOVE = 1
MREMAP_FIXED = 2
MADV_DONTNEED = 4
MADV_COLLAPSE = 25
MADV_GUARD_INSTALL = 102
MADV_GUARD_REMOVE = 103


class Hands:
    """Commands to a running ``hands``; addresses and lengths in bytes unless a parameter says pages."""

    def __init__(self, victim: Victim) -> None:
        self.victim = victim
        self.pid = victim.pid

    def call(self, number: int, *arguments: int) -> int:
        """A system call of the victim's; a failure is an OSError."""
        result = int(self.victim.expect("ok", f"call {number} {' '.join(map(str, arguments))}"))
        if -4096 < result < 0:
            raise OSError(-result, os.strerror(-result))
        return result

    def put(self, address: int, byte: int = 1) -> None:
        self.victim.expect("ok", f"put {address} {byte}")

    def get(self, address: int) -> int:
        return int(self.victim.expect("ok", f"get {address}"))

    def fill(self, address: int, pages: int, seed: int = 1) -> None:
        self.victim.expect("ok", f"fill {address} {pages} {seed}")

    def fork(self, address: int, byte: int) -> int:
        """A child (killed with its parent) that has stored ``byte`` at ``address``."""
        return int(self.victim.expect("ok", f"fork {address} {byte}"))

    def map(self, pages: int, *, at: int = 0, prot: int = RW, flags: int = PRIVATE, fd: int = -1) -> int:
        fixed = MAP_FIXED if at else 0
        return self.call(nr.SYS_mmap, at, pages * PAGE, prot, flags | fixed, fd, 0)

    def unmap(self, address: int, pages: int) -> None:
        self.call(nr.SYS_munmap, address, pages * PAGE)

    def protect(self, address: int, pages: int, prot: int) -> None:
        self.call(nr.SYS_mprotect, address, pages * PAGE, prot)

    def advise(self, address: int, pages: int, advice: int) -> None:
        self.call(nr.SYS_madvise, address, pages * PAGE, advice)

    def remap(self, address: int, pages: int, new_pages: int, flags: int = 0, to: int = 0) -> int:
        return self.call(nr.SYS_mremap, address, pages * PAGE, new_pages * PAGE, flags, to)

    def brk(self, address: int = 0) -> int:
        return self.call(nr.SYS_brk, address)

    def open(self, path: Path, room: int) -> int:
        """Open a file for reading and writing; ``room`` is memory of the victim's where the path may be written."""
        raw = os.fsencode(path) + b"\0"
        with open(f"/proc/{self.pid}/mem", "r+b", buffering=0) as memory:
            memory.seek(room)
            memory.write(struct.pack(f"{len(raw)}s", raw))
        return self.call(nr.SYS_openat, -100, room, os.O_RDWR)
