# SPDX-License-Identifier: Apache-2.0
"""Whether a running process has the mappings that a checkpoint's memory is to be written into: all reasons at once."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress

from icecore.errors import CannotRestore
from icecore.kernel.mman import PROT_WRITE
from icecore.kernel.procfs import Vma, fd_link, fd_numbers, read_vm_flags
from icecore.storage.records import Mapping

FAULTS_SERVED = frozenset({"um", "ui", "uw"})
"""VmFlags of memory that is registered with a userfaultfd: for missing pages, minor faults, write protection."""
_USERFAULTFD = "anon_inode:[userfaultfd]"


def describe(m: Mapping) -> str:
    """``5000-8000 ([heap])``."""
    return f"{m.start:x}-{m.end:x}" + (f" ({m.path})" if m.path else "")


def refused(pid: int, reasons: Sequence[str]) -> CannotRestore:
    """The error, with every reason."""
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return CannotRestore(
        f"the memory does not fit into process {pid}: {reasons[0]}{more}; nothing was written",
        f"see /proc/{pid}/maps: name the process that it was taken of, or one with the same mappings",
        tuple(reasons),
    )


def require_match(pid: int, wanted: Sequence[Mapping], vmas: Sequence[Vma]) -> None:
    """CannotRestore names every mapping that is not there, is smaller, or is of another kind."""
    reasons = [reason for mapping in wanted for reason in _differs(mapping, vmas)]
    if reasons:
        raise refused(pid, reasons)


def _differs(wanted: Mapping, vmas: Sequence[Vma]) -> Iterator[str]:
    at = wanted.start
    for vma in vmas:
        if vma.end <= at or at >= wanted.end:
            continue
        if vma.start > at:
            break
        if reason := _is_another(wanted, vma):
            yield f"{describe(wanted)} {reason}"
            return
        at = vma.end
    if at == wanted.start:
        yield f"{describe(wanted)} is not mapped"
    elif at < wanted.end:
        yield f"{describe(wanted)} is smaller: it ends at {at:x}"


def _is_another(wanted: Mapping, vma: Vma) -> str:
    """Why a mapping cannot take the bytes, or nothing."""
    if vma.is_of_the_kernel or _kind(vma) != wanted.kind:
        return f"is not {_WORDS[wanted.kind]} now, but {vma.path or 'anonymous memory'}"
    if wanted.kind == "file" and not _is_same_file(wanted, vma):
        return f"shows another file now, or another part of it: {vma.path}"
    if wanted.prot & PROT_WRITE and not vma.prot & PROT_WRITE:
        return "is not writable"
    return ""


_WORDS = {"anon": "private memory", "file": "a private mapping of that file", "shmem": "shared memory"}


def _kind(vma: Vma) -> str:
    if vma.shared:
        return "shmem" if vma.is_shared_memory else "shared file"
    return "file" if vma.inode else "anon"


def _is_same_file(wanted: Mapping, vma: Vma) -> bool:
    if (wanted.dev, wanted.inode) != (vma.dev, vma.inode) or wanted.offset - wanted.start != vma.offset - vma.start:
        return False
    try:
        found = os.stat(wanted.path)
    except OSError:
        return not wanted.file_mtime_ns
    return (found.st_size, found.st_mtime_ns) == (wanted.file_size, wanted.file_mtime_ns)


def require_no_faults_of_its_own(pid: int, wanted: Sequence[Mapping]) -> None:
    """The program must not be the one who serves faults there: we would wait for it, and it is frozen."""
    if not _holds_userfaultfd(pid):
        return
    flags = read_vm_flags(pid)
    served = [borders for borders, words in flags.items() if FAULTS_SERVED & {*words}]
    hit = [m for m in wanted if any(start < m.end and m.start < end for start, end in served)]
    if hit:
        raise refused(pid, [f"{describe(m)} is memory whose faults a userfaultfd of the program serves" for m in hit])


def _holds_userfaultfd(pid: int) -> bool:
    for fd in fd_numbers(pid):
        with suppress(FileNotFoundError):
            if fd_link(pid, fd) == _USERFAULTFD:
                return True
    return False
