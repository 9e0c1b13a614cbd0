# SPDX-License-Identifier: Apache-2.0
"""What the torture draws from: every kind of operation, how often, with which pages; and sequences of them.

Pages 0 to 63 of the arena are small change: mappings of every kind come, go and meet there. With more operations
between two checkpoints there are more such districts side by side, 64 pages each: else nearly every page would be
written again and again, and hide that an earlier change of it was missed. Pages 512 to 1535 are two huge pages' worth.
"""

import os
from dataclasses import dataclass

from hypothesis import strategies as st

SMALL, HUGE = 64, (512, 1024)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of operation: lines with {p}, {q} a page of the arena; {n}, {m} how many; {h} in the huge part; {k} 0, 1
    or 2; {i} another page: of the heap, the stack, a file."""

    name: str
    weight: int
    template: str


ADVICE = {"dontneed": 4, "free": 8, "remove": 9, "mergeable": 12, "hugepage": 14, "nohugepage": 15, "pageout": 21,
          "populate-read": 22, "populate-write": 23, "collapse": 25, "guard": 102, "unguard": 103}  # fmt: skip
"""include/uapi/asm-generic/mman-common.h."""

KINDS = (
    Kind("write", 24, "write {p} {n}"),
    Kind("same", 4, "same {p} {n}"),
    Kind("fill", 6, "fill {p} {n} {k}"),
    Kind("read", 6, "read {p} {n}"),
    Kind("receive", 3, "receive {p} {i}"),
    Kind("map", 10, "map {p} {n} 0"),
    Kind("map-file", 7, "map {p} {n} 1"),
    Kind("map-shared", 6, "map {p} {n} 2"),
    Kind("map-memfd", 6, "map {p} {n} 3"),
    Kind("map-read-only", 2, "map {p} {n} 5"),
    Kind("unmap", 4, "unmap {p} {n}"),
    Kind("again", 6, "again {p} {n}"),
    Kind("grow", 5, "resize {p} {n} {m}"),
    Kind("move", 8, "move {p} {n} {m} {q}"),
    Kind("strip", 3, "strip {p} {n} {q}"),
    Kind("protect", 12, "protect {p} {n} {k}"),
    Kind("brk", 4, "brk {i}"),
    Kind("heap", 4, "heap {n} {m}"),
    Kind("stack", 3, "stack {i}"),
    *(Kind(name, 3, f"advise {{p}} {{n}} {number}") for name, number in ADVICE.items()),
    Kind("huge", 4, "map {h} 512 0\nadvise {h} 512 14\nwrite {h} {n}"),
    Kind("huge-write", 4, "write {h} {n}"),
    Kind("huge-drop", 2, "advise {h} {i} 4"),
    Kind("huge-move", 1, "move 512 512 512 1024"),
    Kind("huge-collapse", 2, "advise {h} 512 25"),
    Kind("hugetlb", 1, "map {h} 512 4\nwrite {h} {n}"),
    Kind("fork", 3, "fork"),
    Kind("child-write", 5, "child write {p} {n}"),
    Kind("child-unmap", 1, "child unmap {p} {n}"),
    Kind("reap", 2, "reap"),
    Kind("object", 4, "object {i}"),
    Kind("child-object", 1, "child object {i}"),
    Kind("punch", 3, "punch {i} {n}"),
    Kind("file", 2, "file {i}"),
    Kind("outside", 4, "outside {p} {n}"),
    Kind("ksm", 1, "fill {p} {n} 1\nadvise {p} {n} 12\nksm"),
    Kind("pin", 2, "pin {p} 1"),
    Kind("transfer", 4, "transfer {i}"),
    Kind("unpin", 2, "unpin"),
    Kind("own", 2, "own {p} {n}"),
    Kind("disown", 2, "disown"),
    Kind("exec", 1, "exec"),
)
BY_NAME = {kind.name: kind for kind in KINDS}

PROLOGUE = (
    ("map {p} 24 0", 0),
    ("map {p} 8 1", 28),
    ("map {p} 8 2", 40),
    ("map {p} 8 3", 48),
    ("write {p} 16", 0),
    ("write {p} 3", 30),
    ("write {p} 4", 41),
    ("write {p} 4", 50),
)
"""What is done in each district first: the line, and its page."""

Operation = tuple[str, dict[str, int]]
"""A kind's template (empty: no operation), and its numbers."""

_NAMES = st.sampled_from([kind.name for kind in KINDS for _ in range(kind.weight)])
_PAGES = st.integers(0, SMALL - 1)
_COUNTS = st.integers(1, 12)
_NUMBERS = {
    "p": _PAGES,
    "q": _PAGES,
    "i": _PAGES,
    "n": _COUNTS,
    "m": _COUNTS,
    "k": st.integers(0, 2),
    "h": st.sampled_from(HUGE),
}
_FIELDS = {kind.name: [key for key in _NUMBERS if f"{{{key}}}" in kind.template] for kind in KINDS}
BUSY = "ICECORE_TORTURE_SEED" in os.environ
"""Whether the victim may work during a checkpoint. What it has done at some instant cannot be repeated: such a failure
does not shrink, so only `make torture`, which names its seed, draws it."""
_MODES = st.sampled_from(["quiet", "quiet", "quiet", "frozen", "frozen", "failed", *["busy"] * BUSY])
_IS_SOMETHING = st.integers(0, 15)


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    """One operation, or none, which is what others shrink to."""
    if not draw(_IS_SOMETHING):
        return "", {}
    name = draw(_NAMES)
    return BY_NAME[name].template, {key: draw(_NUMBERS[key]) for key in _FIELDS[name]}


def lines_of(operation: Operation, district: int = 0) -> list[str]:
    """As the victim is told it."""
    template, numbers = operation
    there = {key: number + SMALL * district if key in ("p", "q") else number for key, number in numbers.items()}
    return template.format(**there).split("\n") if template else []


@st.composite
def checkpoints(draw: st.DrawFn) -> str:
    """A line that takes one."""
    mode = draw(_MODES)
    if mode != "busy":
        return f"checkpoint {mode}"
    lines = [line for _ in range(4) for line in lines_of(draw(operations()))]
    meanwhile = [line for line in lines if line.split()[0] not in ("outside", "ksm", "exec")]
    return "checkpoint busy " + ";".join(meanwhile or ["write 0 8"])


@st.composite
def sequences(draw: st.DrawFn, longest: int, fewest: int, most: int, districts: int, twice: bool) -> list[str]:
    """At most so many checkpoints, with ``fewest`` to ``most`` operations before each, in one district after the other.
    The last one must be right: if it is one that fails, another follows; if ``twice``, always."""
    steps = st.lists(operations(), min_size=fewest, max_size=most)
    lines = [line for i in range(districts) for template, p in PROLOGUE for line in lines_of((template, {"p": p}), i)]
    for _ in range(draw(st.integers(1, longest))):
        drawn = draw(steps)
        for number, operation in enumerate(drawn):
            lines += lines_of(operation, number * districts // len(drawn))
        lines.append(draw(checkpoints()))
    return [*lines, "checkpoint quiet"] if twice or lines[-1] == "checkpoint failed" else lines
