# SPDX-License-Identifier: Apache-2.0
"""Mappings as records: what each is, the state of the file behind it, its VmFlags."""

import os
from collections.abc import Iterable, Iterator

from icecore.daemon.check.mappings import NO_FLAGS, FileChecks, VmFlags, mapping_kind
from icecore.kernel.procfs import Vma
from icecore.storage.records import Mapping, SharedObject


def capture_mappings(vmas: Iterable[Vma], vm_flags: VmFlags, files: FileChecks) -> tuple[Mapping, ...]:
    """In address order. VmFlags were read while the target ran: see ``FlagsByRange``."""
    flags = FlagsByRange(vm_flags)
    return tuple(capture_mapping(vma, flags.of(vma), files) for vma in vmas)


def capture_mapping(vma: Vma, flags: tuple[str, ...], files: FileChecks) -> Mapping:
    kind = mapping_kind(vma)
    found = files.stat(vma.path) if kind == "file" else None
    return Mapping(
        start=vma.start,
        end=vma.end,
        prot=vma.prot,
        shared=vma.shared,
        kind=kind,
        offset=vma.offset,
        path=vma.path,
        dev=vma.dev,
        inode=vma.inode,
        file_size=found.st_size if found else 0,
        file_mtime_ns=found.st_mtime_ns if found else 0,
        flags=flags,
    )


class FlagsByRange:
    """VmFlags of mappings that may have been split, merged, grown or made since smaps was read.

    smaps walks the page tables and is too slow for a frozen target, so it is read before. A mapping whose borders have
    moved takes the flags of the one that overlapped it; a new one has none: it is a plain mapping until the next
    checkpoint looks.
    """

    def __init__(self, vm_flags: VmFlags) -> None:
        self._flags = vm_flags

    def of(self, vma: Vma) -> tuple[str, ...]:
        """The flags of a mapping."""
        found = self._flags.get((vma.start, vma.end))
        return self._overlapping(vma) if found is None else found

    def _overlapping(self, vma: Vma) -> tuple[str, ...]:
        for (start, end), flags in self._flags.items():
            if start < vma.end and vma.start < end:
                return flags
        return NO_FLAGS


def shared_objects(pid: int, vmas: Iterable[Vma]) -> Iterator[SharedObject]:
    """The anonymous shared memory objects, once each."""
    by_object: dict[tuple[int, int], list[Vma]] = {}
    for vma in vmas:
        if vma.shared and mapping_kind(vma) == "shmem":
            by_object.setdefault((vma.dev, vma.inode), []).append(vma)
    for (dev, inode), mapped in by_object.items():
        yield SharedObject(dev=dev, inode=inode, size=object_size(pid, mapped))


def object_size(pid: int, mapped: list[Vma]) -> int:
    """By /proc/PID/map_files, which only CAP_CHECKPOINT_RESTORE may follow; without it, as far as it is mapped."""
    first = mapped[0]
    try:
        return os.stat(f"/proc/{pid}/map_files/{first.start:x}-{first.end:x}").st_size
    except OSError:
        return max(vma.offset + vma.length for vma in mapped)
