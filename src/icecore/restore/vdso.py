# SPDX-License-Identifier: Apache-2.0
"""The kernel's own mappings (vdso, vvar): moved to where the process had them; everything else of the stub goes."""

from collections.abc import Sequence

from blake3 import blake3

from icecore.errors import CannotRestore
from icecore.inject.code import SYSCALL
from icecore.inject.vdso import own_vdso
from icecore.kernel.arch.x86_64 import SYS_mremap, SYS_munmap
from icecore.kernel.mman import MREMAP_FIXED, MREMAP_MAYMOVE
from icecore.kernel.procfs import Vma, read_maps
from icecore.restore.calls import Calls
from icecore.restore.launch import PARKING_SIZE
from icecore.restore.runner import WORK_SIZE
from icecore.restore.space import Span, outside
from icecore.restore.stub import Stub
from icecore.storage.records import Mapping

MOVABLE = ("vdso", "vvar")


def own_digest() -> bytes:
    """blake3 of this kernel's vdso image without the zeros at its end."""
    return blake3(own_vdso().image.rstrip(b"\0")).digest()


def clear(stub: Stub, mappings: Sequence[Mapping]) -> None:
    """Unmap all that the stub was born with, and place vdso and vvar as ``mappings`` say."""
    wanted = [m for m in mappings if m.kind in MOVABLE]
    own = _named(read_maps(stub.pid))
    moves = [(own[m.path], m) for m in wanted if m.path in own and own[m.path].length == m.end - m.start]
    if len(moves) != len(wanted):
        raise CannotRestore("this kernel's vdso differs from the checkpoint's", "restore under the kernel it ran on")
    calls = Calls()
    parked = _park(calls, [vma for vma, _ in moves], stub.work + WORK_SIZE)
    for start, end in outside([*parked, (stub.work, stub.work + WORK_SIZE)]):
        calls.add(f"unmap {start:#x}-{end:#x}", SYS_munmap, start, end - start)
    for (start, end), (_, mapping) in zip(parked, moves, strict=True):
        _move(calls, mapping.path, (start, end), mapping.start)
    stub.run(calls)
    stub.syscall_at = _syscall_instruction(wanted)


def _named(vmas: Sequence[Vma]) -> dict[str, Vma]:
    return {vma.path: vma for vma in vmas if vma.is_of_the_kernel}


def _park(calls: Calls, vmas: Sequence[Vma], place: int) -> list[Span]:
    """Move the mappings side by side to ``place``: where they are and where they go may overlap."""
    limit = place + PARKING_SIZE
    spans: list[Span] = []
    for vma in vmas:
        spans.append((place, place + vma.length))
        _move(calls, vma.path, (vma.start, vma.end), place)
        place += vma.length
    assert place <= limit
    return spans


def _move(calls: Calls, name: str, span: Span, to: int) -> None:
    length = span[1] - span[0]
    calls.add(f"move {name}", SYS_mremap, span[0], length, length, MREMAP_MAYMOVE | MREMAP_FIXED, to, expect=to)


def _syscall_instruction(mappings: Sequence[Mapping]) -> int:
    """Address of a ``syscall`` instruction in the placed vdso: it falls back on system calls, so it has some."""
    vdso = next((m for m in mappings if m.kind == "vdso"), None)
    if vdso is None:
        raise CannotRestore("the process had no vdso", "icecore needs it to finish a restore")
    return vdso.start + own_vdso().image.index(SYSCALL)
