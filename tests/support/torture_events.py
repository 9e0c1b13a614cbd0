# SPDX-License-Identifier: Apache-2.0
"""The events that ``docs/tracking.md`` speaks of, as operations of the torture, and what each tracker makes of them."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from support.memory import PAGE, Pages
from support.programs import c_program
from support.torture_round import Missed, Seen
from support.torture_session import ARENA, Session
from support.victim import Victim

from icecore.storage.layer import KEYFRAME
from icecore.storage.runs import contains


@dataclass(frozen=True, slots=True)
class Event:
    """What happens between two checkpoints, after what."""

    name: str
    kinds: str
    """The kinds of operation (``support.torture_operations``) that it stands for."""
    before: str
    lines: str


ANON = "map 0 16 0\nwrite 0 16"
HUGE = "map 512 512 0\nadvise 512 512 14\nwrite 512 512"
OBJECT = "map 0 16 3\nwrite 0 16"
NEIGHBOURS = "map 0 8 5\nprotect 0 8 2\nwrite 0 8\nprotect 0 8 1\nmap 8 8 0\nwrite 8 8"
MERGE = "map 16 8 0\nprotect 8 8 0\nprotect 8 8 2\nwrite 10 1\nprotect 0 8 2"
"""A new mapping joins its neighbour; its protection goes and comes; a write; it joins an older neighbour."""

EVENTS = (
    Event("write", "write huge", ANON, "write 3 1\nwrite 9 2"),
    Event("write-of-the-same", "same", ANON, "same 3 4"),
    Event("fill-with-zeros", "fill", ANON, "fill 3 2 0"),
    Event("first-touch", "read", "map 0 16 0", "read 0 4\nwrite 4 4"),
    Event("system-call", "receive", ANON, "receive 5 1"),
    Event("from-outside", "outside", ANON, "outside 5 2"),
    Event("map", "map map-read-only", ANON, "map 20 8 0\nwrite 20 2\nmap 30 4 5"),
    Event("unmap", "unmap", ANON, "unmap 4 4"),
    Event("map-in-place", "again", ANON, "again 4 4\nwrite 5 1"),
    Event("brk-up", "brk heap", "brk 8\nheap 0 8", "brk 16\nheap 8 2"),
    Event("brk-down", "brk", "brk 16\nheap 0 16", "brk 8"),
    Event("stack", "stack", ANON, "stack 60"),
    Event("mremap-grow", "grow", ANON, "resize 0 16 20\nwrite 17 1"),
    Event("mremap-move", "move strip", ANON, "move 0 8 8 32"),
    Event("mprotect", "protect", ANON, "protect 4 4 1\nprotect 4 4 2\nprotect 8 4 0"),
    Event("mprotect-none-and-back", "protect", ANON, "protect 0 16 0\nprotect 0 16 2\nwrite 3 1"),
    Event("mprotect-merge", "protect map", NEIGHBOURS, MERGE),
    Event("dontneed", "dontneed", ANON, "advise 4 4 4\nread 5 1"),
    Event("free", "free pageout", ANON, "advise 4 4 8\nwrite 5 1"),
    Event("guard", "guard unguard", ANON, "advise 4 4 102\nadvise 6 1 103"),
    Event("populate", "populate-read populate-write", "map 0 16 0", "advise 0 4 22\nadvise 4 4 23"),
    Event("huge-write", "huge-write hugepage nohugepage", HUGE, "write 520 1"),
    Event("huge-dontneed", "huge-drop", HUGE, "advise 516 8 4"),
    Event("huge-move", "huge-move", HUGE, "move 512 512 512 1024"),
    Event("collapse", "collapse huge-collapse", "map 512 512 0\nwrite 512 512", "advise 512 512 14\nadvise 512 512 25"),
    Event("hugetlb", "hugetlb", "map 512 512 4\nwrite 512 8", "write 514 1"),
    Event("fork-parent-writes", "fork reap", ANON, "fork\nwrite 3 1\nreap"),
    Event("fork-child-writes", "child-write child-unmap", ANON, "fork\nchild write 3 1\nchild unmap 5 1\nreap"),
    Event("private-file-written", "map-file", "map 0 16 1\nread 0 16\nwrite 0 4", "write 2 4"),
    Event("private-file-reverted", "map-file", "map 0 16 1\nread 0 16\nwrite 0 4", "advise 0 2 4"),
    Event("file-below-changes", "file", "map 0 16 1\nread 0 16\nwrite 0 4", "file 2\nfile 8"),
    Event("shared-written", "map-shared", "map 0 16 2\nwrite 0 16", "write 3 1"),
    Event("shared-written-by-another", "map-memfd child-object", OBJECT, "fork\nchild write 3 1\nchild object 5\nreap"),
    Event("shared-written-by-pwrite", "object", OBJECT, "object 5"),
    Event("shared-punched", "punch remove", OBJECT, "punch 4 4\nadvise 10 2 9"),
    Event("ksm", "ksm mergeable", ANON + "\nfill 4 8 1\nadvise 0 16 12", "fill 4 8 2\nksm"),
    Event("io-uring-buffer", "pin transfer unpin", ANON + "\npin 4 2", "transfer 3"),
    Event("own-userfaultfd", "own disown", ANON + "\nown 0 8", "write 3 1\nwrite 12 1"),
    Event("exec", "exec", ANON, "exec"),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one tracker made of one event."""

    word: str
    """``exact``: it named what changed. ``noise``: it named more. ``compared``: nothing was proven, content decided;
    of unchanged pages. ``keyframe``. Without ``--exact`` also ``missed``."""
    refused: bool
    """The kernel refused some of the operations: they cannot be tried here."""


def measure(event: Event, tracker: str, exact: bool = True) -> Outcome:
    """Let it happen to a process that has been tracked for two checkpoints."""
    with TemporaryDirectory(prefix="icecore-event-") as directory:
        program: list[str | Path] = [c_program("torture"), str(Path(directory) / "file")]
        with Victim.start(program) as victim, Session(victim, tracker, Path(directory), exact=exact) as session:
            session.play([*event.before.split("\n"), "checkpoint quiet", "checkpoint quiet"])
            heap = int(victim.greeting.split()[1])
            try:
                session.play(event.lines.split("\n"))
                seen = session.checkpoint("quiet")
            except Missed:
                return Outcome("missed", False)
            assert seen is not None
            return Outcome(_word(seen, heap), session.totals.refused > 0)


def _word(seen: Seen, heap: int) -> str:
    if seen.kind == KEYFRAME:
        return "keyframe"
    unchanged = _ours(seen.unchanged, heap)
    if contains(seen.named, unchanged).any():
        return "noise"
    return "compared" if contains(seen.in_doubt, unchanged).any() else "exact"


def _ours(pages: Pages, heap: int) -> Pages:
    """Those of the arena and the heap: what else the victim does to its memory is not the event."""
    first, arena = np.uint64(heap // PAGE), np.uint64(ARENA // PAGE)
    near = ((pages - arena) < 4096) | ((pages - first) < 64)  # unsigned: what lies before is far away
    found: Pages = pages[near]
    return found
