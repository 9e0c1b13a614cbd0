# SPDX-License-Identifier: Apache-2.0
"""What each mapping of a process is, and which of them no restore can bring back."""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache

from icecore.daemon.check.holders import mapping_holders
from icecore.daemon.check.reason import Reason
from icecore.kernel.procfs import Vma

PROT_WRITE = 2
DELETED = " (deleted)"
KINDS_REMEMBERED = 4096

VmFlags = Mapping[tuple[int, int], tuple[str, ...]]
"""VmFlags of smaps by (start, end)."""
NO_FLAGS: tuple[str, ...] = ()

SharedKey = tuple[int, int, int]
"""A shared memory object: major, minor, inode."""

BRACKETED = {"[heap]": "anon", "[stack]": "anon", "[vdso]": "vdso", "[vsyscall]": "vsyscall"}

SPECIAL = (
    ("[anon:", "anon"),
    ("[vvar", "vvar"),
    ("[anon_shmem:", "shmem"),
    ("/SYSV", "sysv-shm"),
    ("/memfd:", "memfd"),
    ("/secretmem", "secret-memory"),
    ("/[aio]", "aio"),
    ("/anon_hugepage", "hugetlb"),
    ("anon_inode:[io_uring]", "io-uring"),
    ("anon_inode:[perf_event]", "perf"),
    ("anon_inode:bpf", "bpf"),
    ("socket:[", "socket"),
)
"""Kinds by how the path begins. The files among them have no path in the file system, so the kernel adds DELETED."""

RESTORABLE = frozenset({"anon", "file", "shmem", "vdso", "vvar", "vsyscall"})

REFUSED = {
    "aio": "ring of Linux asynchronous I/O (io_setup)",
    "bpf": "mapped BPF object",
    "deleted-mapping": "mapping of the deleted file {path}",
    "device": "mapping of the device {path}",
    "hugetlb": "huge pages (MAP_HUGETLB)",
    "io-uring": "io_uring ring",
    "memfd": "mapping of the memory file {path}",
    "perf": "perf event buffer",
    "secret-memory": "memfd_secret memory",
    "shared-file-mapping": "shared writable mapping of {path}",
    "socket": "packet socket buffer",
    "special-mapping": "mapping {path}, of a kind that icecore does not know",
    "sysv-shm": "System V shared memory",
}

REFUSED_FLAGS = {
    "ht": ("hugetlb", "huge pages (hugetlbfs)"),
    "io": ("device", "device memory"),
    "pf": ("device", "device memory"),
    "ss": ("shadow-stack", "shadow stack"),
    "um": ("userfaultfd", "memory whose faults a userfaultfd of the program serves"),
    "ui": ("userfaultfd", "memory whose faults a userfaultfd of the program serves"),
}
"""VmFlags (proc_pid_smaps(5)) that stand in the way. ``uw`` does not: icecore's own tracker sets it."""


def mapping_kind(vma: Vma) -> str:
    """A word of RESTORABLE, or a key of REFUSED. Says nothing of what the path now leads to."""
    return kind_by_path(vma.path, vma.shared, bool(vma.prot & PROT_WRITE))


@lru_cache(maxsize=KINDS_REMEMBERED)
def kind_by_path(path: str, shared: bool, writable: bool) -> str:
    if not path:
        return "shmem" if shared else "anon"
    if word := BRACKETED.get(path):
        return word
    for prefix, word in SPECIAL:
        if path.startswith(prefix) and (path[0] != "/" or path.endswith(DELETED)):
            return word
    return file_kind(path, shared, writable) if path.startswith("/") else "special-mapping"


def file_kind(path: str, shared: bool, writable: bool) -> str:
    if path == "/dev/zero (deleted)" and shared:
        return "shmem"
    if path == "/dev/zero":
        return "anon"  # a private mapping of it: the kernel keeps the name, but makes it anonymous
    if path.endswith(DELETED):
        return "deleted-mapping"
    return "shared-file-mapping" if shared and writable else "file"


def refuse_mappings(
    pid: int, vmas: Sequence[Vma], vm_flags: VmFlags, files: "FileChecks", private: AbstractSet[SharedKey] = frozenset()
) -> list[Reason]:
    """Every mapping that cannot be restored; one reason for several mappings of one file.

    ``private``: shared memory objects of which it is known that nobody else has mapped them.
    """
    reasons = [reason for vma in vmas for reason in refuse_mapping(vma, vm_flags, files)]
    reasons += refuse_shared_memory(pid, vmas, private)
    return list({(reason.kind, reason.why): reason for reason in reversed(reasons)}.values())[::-1]


def refuse_mapping(vma: Vma, vm_flags: VmFlags, files: "FileChecks") -> Iterator[Reason]:
    word = mapping_kind(vma)
    if word not in RESTORABLE:
        yield Reason(word, thing(vma), REFUSED[word].format(path=vma.path.removesuffix(DELETED)))
        return
    if word == "file" and (trouble := files.trouble(vma)):
        yield Reason(trouble, thing(vma), why_not_file(trouble, vma.path))
        return
    if word in ("anon", "file", "shmem"):
        for code in vm_flags.get((vma.start, vma.end), NO_FLAGS):
            if code in REFUSED_FLAGS:
                kind, why = REFUSED_FLAGS[code]
                yield Reason(kind, thing(vma), why)


def thing(vma: Vma) -> str:
    """For messages: ``mapping 7f0000000000-7f0000001000``."""
    return f"mapping {vma.start:x}-{vma.end:x}"


def why_not_file(kind: str, path: str) -> str:
    if kind == "device":
        return REFUSED["device"].format(path=path)
    return f"{path} was replaced or hidden since it was mapped"


class FileChecks:
    """What the paths of mapped files lead to now, each looked at once."""

    def __init__(self) -> None:
        self._stats: dict[str, os.stat_result | None] = {}

    def stat(self, path: str) -> os.stat_result | None:
        """None if the path leads nowhere."""
        if path not in self._stats:
            try:
                self._stats[path] = os.stat(path)
            except OSError:
                self._stats[path] = None
        return self._stats[path]

    def trouble(self, vma: Vma) -> str:
        """Why the file cannot be mapped again: ``device``, ``deleted-mapping`` (replaced), or "".

        Only the inode is compared: on overlayfs and btrfs the device in maps is not that of stat.
        """
        found = self.stat(vma.path)
        if found is None:
            return "deleted-mapping"
        if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
            return "device"
        return "" if found.st_ino == vma.inode else "deleted-mapping"


def shared_objects(vmas: Iterable[Vma]) -> dict[SharedKey, Vma]:
    """The anonymous shared memory objects, each with a mapping of it."""
    return {(vma.major, vma.minor, vma.inode): vma for vma in vmas if mapping_kind(vma) == "shmem"}


def refuse_shared_memory(pid: int, vmas: Iterable[Vma], private: AbstractSet[SharedKey]) -> Iterator[Reason]:
    """Shared anonymous memory that another process has mapped too; /proc is searched only if there is any."""
    objects = shared_objects(vmas)
    doubtful = objects.keys() - private
    if not doubtful:
        return
    for key, holder in mapping_holders(pid, doubtful).items():
        yield Reason("shared-memory", thing(objects[key]), f"shared memory that {holder} has mapped too")
