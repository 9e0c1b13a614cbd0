# SPDX-License-Identifier: Apache-2.0
"""Parts of an address space by name: ``heap``, ``stack``, or a mapping's path as /proc/PID/maps prints it."""

from collections.abc import Sequence
from typing import Protocol

Span = tuple[int, int]
"""[start, end), bytes."""

HEAP, STACK = "heap", "stack"
_BRACKETED = {HEAP: "[heap]", STACK: "[stack]"}
_DELETED = " (deleted)"


class Mapped(Protocol):
    """A mapping: ``Vma``, or a record of one."""

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def prot(self) -> int: ...
    @property
    def path(self) -> str: ...


def is_name(text: str) -> bool:
    """Whether it can be the name of a mapping: ``heap``, ``stack``, a path, or a bracketed name."""
    return text in _BRACKETED or text.startswith(("/", "["))


def spans_of(name: str, mappings: Sequence[Mapped]) -> list[Span]:
    """Where the mappings of that name are, in the order of ``mappings`` (ascending addresses); empty: there is none."""
    path = _BRACKETED.get(name, name)
    where = [at for at, mapping in enumerate(mappings) if mapping.path.removesuffix(_DELETED) == path]
    if path == _BRACKETED[STACK]:
        return [_whole_stack(mappings, at) for at in where]
    return [(mappings[at].start, mappings[at].end) for at in where]


def _whole_stack(mappings: Sequence[Mapped], at: int) -> Span:
    """Tracking a part of it splits it, and only one of the parts is called [stack] (show_map_vma of the kernel)."""
    first = last = at
    while first > 0 and _continues(mappings[first - 1], mappings[first]):
        first -= 1
    while last + 1 < len(mappings) and _continues(mappings[last], mappings[last + 1]):
        last += 1
    return mappings[first].start, mappings[last].end


def _continues(one: Mapped, other: Mapped) -> bool:
    named = {one.path, other.path} - {_BRACKETED[STACK]}
    return one.end == other.start and one.prot == other.prot and named <= {""}
