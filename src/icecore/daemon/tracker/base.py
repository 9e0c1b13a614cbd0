# SPDX-License-Identifier: Apache-2.0
"""What a tracker is: it learns which pages of a target were written, and what each page is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from icecore.inject import Frozen
from icecore.kernel.procfs import Vma
from icecore.storage.runs import Runs

Range = tuple[int, int] | str
"""[start, end) in bytes, page-aligned; or the name of mappings (``kernel.procfs.spans_of``), looked up anew each time
since they grow."""
Ranges = tuple[Range, ...]
"""What is tracked; empty: the whole address space."""


@dataclass(frozen=True, slots=True)
class Collected:
    """One moment of a frozen target: every page that is anything, by class; page numbers.

    A page in none of ``populated``, ``zero`` and ``guard`` is a hole, or equals the file that is mapped there.
    """

    dirty: Runs
    """Data pages written since they were last collected (or never collected)."""
    populated: Runs
    """All pages with data of their own."""
    zero: Runs
    """Pages that were read, never written: the zero page."""
    guard: Runs
    """MADV_GUARD_INSTALL."""
    in_doubt: Runs
    """Data pages that no kernel bit proves unchanged: their content decides. Disjoint from ``dirty``."""


class Tracker(Protocol):
    """Used by one OS thread at a time. Every method raises TargetGone when the address space is no more."""

    name: str
    """``write-protect``, ``soft-dirty``, ``content``."""
    reason: str
    """Why this one, for people."""
    pause_us: int
    """Microseconds for which ``collect`` has stopped the target; the caller sets it back to 0."""

    def arm(self, frozen: Frozen) -> None:
        """Do what needs a stopped target; the first ``collect`` does the rest."""
        ...

    def alive(self) -> bool:
        """Whether the address space that this tracker was made for still exists (no exit, no exec)."""
        ...

    def worth_a_live_round(self) -> bool:
        """Whether one more ``collect`` would make the whole pause shorter: it may have to stop the target itself."""
        ...

    def collect(self, vmas: Sequence[Vma]) -> Runs:
        """While the target runs: pages that may have changed since the last collect, and from now on are watched anew.

        A page written after the call comes in the next one, so the caller reads after it, never before. The first time
        these are all pages with data. Holes, zero pages, and pages that equal their file are left out.
        """
        ...

    def collect_frozen(self, vmas: Sequence[Vma]) -> Collected:
        """While the target is frozen: everything. Dirty pages stay dirty: the next ``collect`` names them too."""
        ...

    def close(self) -> None:
        """Stop watching; harmless when done twice."""
        ...
