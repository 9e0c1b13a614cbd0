# SPDX-License-Identifier: Apache-2.0
"""/proc/PID/maps, and two things of /proc/PID/smaps (slow: it walks the page tables; not for a frozen target)."""

import functools
import mmap
import os
import re
from dataclasses import dataclass

_DELETED = " (deleted)"
_SHARED_MEMORY = ("/dev/zero (deleted)", "/memfd:", "/SYSV", "[anon_shmem:")
_OF_THE_KERNEL = ("[vdso]", "[vvar", "[vsyscall]", "[uprobes]")
_READ_SIZE = 1 << 20
_LINE_CACHE = 1 << 14


@dataclass(frozen=True, slots=True)
class Vma:
    """One line of /proc/PID/maps."""

    start: int
    end: int
    prot: int
    """PROT_READ 1 | PROT_WRITE 2 | PROT_EXEC 4."""
    shared: bool
    offset: int
    major: int
    minor: int
    inode: int
    path: str
    """As the kernel prints it, " (deleted)" included; or a bracketed name; or empty."""

    @property
    def length(self) -> int:
        """Bytes."""
        return self.end - self.start

    @property
    def deleted(self) -> bool:
        """Whether the path leads nowhere any more (shared anonymous memory never had one)."""
        return self.path.endswith(_DELETED)

    @property
    def dev(self) -> int:
        """The device number of the file, as ``st_dev``."""
        return os.makedev(self.major, self.minor)

    @property
    def is_of_the_kernel(self) -> bool:
        """[vdso], [vvar...], [vsyscall]: mapped by the kernel, not by the process."""
        return self.path.startswith(_OF_THE_KERNEL)

    @property
    def is_anonymous(self) -> bool:
        """Private memory without a file (heap and stack included)."""
        return self.inode == 0 and not self.is_of_the_kernel

    @property
    def is_shared_memory(self) -> bool:
        """Shared memory without a file system path: MAP_SHARED|MAP_ANONYMOUS, memfd, System V."""
        return self.shared and self.path.startswith(_SHARED_MEMORY)

    @property
    def is_private_file(self) -> bool:
        """A private mapping of a file: its pages are the file's until they are written."""
        return not self.shared and self.inode != 0


def read_maps(pid: int) -> list[Vma]:
    """The mappings of a process in address order; empty for a kernel thread and a zombie. ESRCH, ENOENT: it is gone.

    While the process runs, lines of different moments may be mixed.
    """
    return parse_maps(_read_all(f"/proc/{pid}/maps"))


def parse_maps(text: bytes) -> list[Vma]:
    """The mappings that the text of a maps file describes."""
    return [_parse_line(line) for line in text.split(b"\n") if line]


@functools.lru_cache(maxsize=_LINE_CACHE)
def _parse_line(line: bytes) -> Vma:
    """Cached, since few lines of a process change between two readings, and the second is made while it is frozen."""
    fields = line.split(None, 5)
    start, end = fields[0].split(b"-")
    major, minor = fields[3].split(b":")
    flags = fields[1]
    path = os.fsdecode(fields[5]).replace("\\012", "\n") if len(fields) > 5 else ""
    prot = (
        mmap.PROT_READ * (flags[0:1] == b"r")
        | mmap.PROT_WRITE * (flags[1:2] == b"w")
        | mmap.PROT_EXEC * (flags[2:3] == b"x")
    )
    shared = flags[3:4] == b"s"
    return Vma(
        int(start, 16), int(end, 16), prot, shared, int(fields[2], 16), int(major, 16), int(minor, 16),
        int(fields[4]), path,
    )  # fmt: skip


def _read_all(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts: list[bytes] = []
        while part := os.read(fd, _READ_SIZE):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


_SMAPS = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) |^VmFlags:(.*)$", re.MULTILINE)


def read_vm_flags(pid: int) -> dict[tuple[int, int], tuple[str, ...]]:
    """The two-letter VmFlags of each mapping, by its (start, end)."""
    found: dict[tuple[int, int], tuple[str, ...]] = {}
    where = (0, 0)
    for start, end, flags in _SMAPS.findall(_read_all(f"/proc/{pid}/smaps")):
        if start:
            where = (int(start, 16), int(end, 16))
        else:
            found[where] = tuple(flags.decode().split())
    return found


_SMAPS_KB = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) |^(?:Rss|Swap): +([0-9]+) kB$", re.MULTILINE)


def read_resident_kb(pid: int) -> dict[tuple[int, int], int]:
    """KiB in memory or swap of each mapping, by its (start, end); zero pages do not count."""
    found: dict[tuple[int, int], int] = {}
    where = (0, 0)
    for start, end, kb in _SMAPS_KB.findall(_read_all(f"/proc/{pid}/smaps")):
        if start:
            where = (int(start, 16), int(end, 16))
            found[where] = 0
        else:
            found[where] += int(kb)
    return found
