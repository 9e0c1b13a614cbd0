# SPDX-License-Identifier: Apache-2.0
"""Where in the address space there is room."""

from collections.abc import Iterable

from icecore.errors import CannotRestore
from icecore.kernel.arch.x86_64 import TASK_SIZE

Span = tuple[int, int]
"""[start, end), bytes."""

LOWEST = 1 << 32
MARGIN = 1 << 20
"""Kept free on both sides: a stack may grow, a heap too."""


def gap(taken: Iterable[Span], size: int) -> int:
    """The lowest address above LOWEST where ``size`` bytes are free, a MARGIN away from everything in ``taken``."""
    address = LOWEST
    for start, end in sorted(taken):
        if start - address >= size + MARGIN:
            break
        address = max(address, end + MARGIN)
    if address + size > TASK_SIZE:
        raise CannotRestore(f"the address space has no gap of {size >> 20} MiB", "restore on the host it was taken on")
    return address


def outside(kept: Iterable[Span]) -> list[Span]:
    """All of user space but ``kept``."""
    holes: list[Span] = []
    address = 0
    for start, end in sorted(kept):
        if start > address:
            holes.append((address, start))
        address = max(address, end)
    return [*holes, (address, TASK_SIZE)] if address < TASK_SIZE else holes
