# SPDX-License-Identifier: Apache-2.0
"""The address space: every mapping in its place, at first writable where something is to be filled in."""

import os
from collections.abc import Iterator, Sequence
from itertools import groupby

from icecore.kernel.arch.x86_64 import (
    SYS_madvise,
    SYS_mlock,
    SYS_mlock2,
    SYS_mmap,
    SYS_mprotect,
    SYS_mremap,
    SYS_munmap,
    SYS_open,
    SYS_prctl,
)
from icecore.kernel.mman import (
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_GUARD_INSTALL,
    MADV_HUGEPAGE,
    MADV_MERGEABLE,
    MADV_NOHUGEPAGE,
    MADV_RANDOM,
    MADV_SEQUENTIAL,
    MADV_WIPEONFORK,
    MAP_ANONYMOUS,
    MAP_DROPPABLE,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    MLOCK_ONFAULT,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_READ,
    PROT_WRITE,
)
from icecore.kernel.prctl import PR_SET_VMA, PR_SET_VMA_ANON_NAME
from icecore.restore.calls import Calls
from icecore.restore.fdtable import FdTable
from icecore.restore.runner import PAGE, WORK_SIZE
from icecore.restore.space import gap
from icecore.restore.stub import Stub
from icecore.storage.records import Mapping, SharedObject
from icecore.storage.runs import Runs

MEMORY_KINDS = ("anon", "file", "shmem")
_ADVICE_FIRST = {"hg": MADV_HUGEPAGE, "nh": MADV_NOHUGEPAGE}
"""Before filling: it decides the size of the pages that filling brings in."""
_ADVICE = {
    "dc": MADV_DONTFORK,
    "dd": MADV_DONTDUMP,
    "wf": MADV_WIPEONFORK,
    "mg": MADV_MERGEABLE,
    "sr": MADV_SEQUENTIAL,
    "rr": MADV_RANDOM,
}
_EINVAL, _ENOMEM = 22, 12
_NAMED = "[anon:"


def _span(mapping: Mapping) -> str:
    return f"{mapping.start:#x}-{mapping.end:#x}" + (f" ({mapping.path})" if mapping.path else "")


def map_all(
    stub: Stub, fds: FdTable, mappings: Sequence[Mapping], objects: Sequence[SharedObject], filled: set[int]
) -> None:
    """Map everything; mappings whose start is in ``filled`` are made writable for the time being."""
    calls = Calls()
    for mapping in mappings:
        if mapping.kind == "anon":
            _map_anonymous(calls, mapping, filled)
    _map_files(calls, fds, [m for m in mappings if m.kind == "file"], filled)
    sizes = {(o.dev, o.inode): o.size for o in objects}
    taken = [*((m.start, m.end) for m in mappings), (stub.work, stub.work + WORK_SIZE)]
    for identity, group in _by_object(mappings):
        _map_object(calls, group, sizes.get(identity, 0), taken)
    for mapping in mappings:
        _advise(calls, mapping, _ADVICE_FIRST)
    stub.run(calls)


def is_droppable(mapping: Mapping) -> bool:
    """MAP_DROPPABLE: whoever has it reckons with losing its content, and is given none. In glibc 2.41 it holds the
    state of getrandom(), which must not go on with the same random numbers in two restored processes."""
    return "dp" in mapping.flags


def _protection(mapping: Mapping, filled: set[int]) -> int:
    return mapping.prot | PROT_READ | PROT_WRITE if mapping.start in filled else mapping.prot


def _flags(mapping: Mapping) -> int:
    private = MAP_DROPPABLE if is_droppable(mapping) else MAP_PRIVATE
    flags = MAP_FIXED_NOREPLACE | (MAP_SHARED if mapping.shared else private)
    return flags | MAP_NORESERVE * ("nr" in mapping.flags) | MAP_GROWSDOWN * ("gd" in mapping.flags)


def _map_anonymous(calls: Calls, m: Mapping, filled: set[int]) -> None:
    flags = _flags(m) | MAP_ANONYMOUS
    calls.add(f"map {_span(m)}", SYS_mmap, m.start, m.end - m.start, _protection(m, filled), flags, -1, 0)


def _map_files(calls: Calls, fds: FdTable, mappings: Sequence[Mapping], filled: set[int]) -> None:
    """Each file is opened once, for writing too only where a shared mapping may be made writable."""
    for (path, mode), group in groupby(sorted(mappings, key=_opened), key=_opened):
        fd = fds.new(calls, f"open {path}, which was mapped", SYS_open, os.fsencode(path) + b"\0", mode, 0)
        for m in group:
            length, prot = m.end - m.start, _protection(m, filled)
            calls.add(f"map {_span(m)}", SYS_mmap, m.start, length, prot, _flags(m), fd, m.offset)
        fds.close(calls, fd)


def _opened(mapping: Mapping) -> tuple[str, int]:
    return mapping.path, os.O_RDWR if mapping.shared and "mw" in mapping.flags else os.O_RDONLY


def _by_object(mappings: Sequence[Mapping]) -> Iterator[tuple[tuple[int, int], list[Mapping]]]:
    def identity(mapping: Mapping) -> tuple[int, int]:
        return mapping.dev, mapping.inode

    shared = sorted((m for m in mappings if m.kind == "shmem"), key=identity)
    return ((key, list(group)) for key, group in groupby(shared, key=identity))


def _map_object(calls: Calls, mappings: list[Mapping], size: int, taken: list[tuple[int, int]]) -> None:
    """The whole object somewhere, then a second view of it (mremap of size 0) for each of its mappings."""
    size = max(-(-size // PAGE) * PAGE, *(m.offset + m.end - m.start for m in mappings), PAGE)
    whole = gap(taken, size)
    flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE * any("nr" in m.flags for m in mappings)
    what = f"map the shared memory of {_span(mappings[0])}"
    calls.add(what, SYS_mmap, whole, size, PROT_READ | PROT_WRITE, flags, -1, 0)
    for m in mappings:
        move = (whole + m.offset, 0, m.end - m.start, MREMAP_MAYMOVE | MREMAP_FIXED, m.start)
        calls.add(f"map {_span(m)}", SYS_mremap, *move, expect=m.start)
    calls.add(what, SYS_munmap, whole, size)


def _advise(calls: Calls, m: Mapping, advice: dict[str, int]) -> None:
    """EINVAL: a kernel without huge pages or KSM; the advice was never more than that."""
    for flag in m.flags:
        if flag in advice and m.kind in MEMORY_KINDS:
            what = f"advise {flag} on {_span(m)}"
            calls.add(what, SYS_madvise, m.start, m.end - m.start, advice[flag], tolerate=(_EINVAL,))


def finish(stub: Stub, mappings: Sequence[Mapping], guard: Runs, filled: set[int]) -> None:
    """After filling: guard pages, advice, names, locks, protection as it was."""
    calls = Calls()
    for start, end in (guard * PAGE).tolist():
        calls.add(f"guard {start:#x}-{end:#x}", SYS_madvise, start, end - start, MADV_GUARD_INSTALL)
    for m in mappings:
        if m.kind in MEMORY_KINDS:
            _finish(calls, m, filled)
    stub.run(calls)


def _finish(calls: Calls, m: Mapping, filled: set[int]) -> None:
    length = m.end - m.start
    _advise(calls, m, _ADVICE)
    if m.path.startswith(_NAMED) and m.kind == "anon":
        name = os.fsencode(m.path[len(_NAMED) : -1]) + b"\0"
        arguments = (PR_SET_VMA, PR_SET_VMA_ANON_NAME, m.start, length, name)
        calls.add(f"name {_span(m)}", SYS_prctl, *arguments, tolerate=(_EINVAL,))
    if m.kind == "shmem" or _protection(m, filled) != m.prot:
        calls.add(f"protect {_span(m)}", SYS_mprotect, m.start, length, m.prot)
    if "lo" in m.flags:
        _lock(calls, m)


def _lock(calls: Calls, m: Mapping) -> None:
    """ENOMEM: the lock is in force, but what lies there cannot be touched (PROT_NONE, guard pages)."""
    length = m.end - m.start
    if "lf" in m.flags:
        calls.add(f"lock {_span(m)}", SYS_mlock2, m.start, length, MLOCK_ONFAULT, tolerate=(_ENOMEM,))
    else:
        calls.add(f"lock {_span(m)}", SYS_mlock, m.start, length, tolerate=(_ENOMEM,))
