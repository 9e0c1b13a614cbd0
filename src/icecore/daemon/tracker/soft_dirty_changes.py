# SPDX-License-Identifier: Apache-2.0
"""Where soft-dirty bits may be silent about a write: what the policy ``exact`` adds to the kernel's answer.

A mapping that new memory merged with is dirty as a whole, and its pages may become writable without being marked one by
one. Before Linux 6.18.37 a later merge can take the mark off the mapping, and with it the only trace of a write. So the
mappings are compared with those at the last clear; where the kernel loses the mark, memory that could have been merged
and split again in between is in doubt too.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from icecore.daemon.tracker.foreign import is_hugetlb
from icecore.daemon.tracker.layout import Backing, Layout, backing_of
from icecore.kernel.procfs import Vma, read_text, read_vm_flags
from icecore.storage.records import PAGE_SIZE
from icecore.storage.runs import EMPTY, Runs, normalise

KSM = Path("/sys/kernel/mm/ksm")
MERGEABLE = "mg"


def changed(before: Sequence[Vma], now: Sequence[Vma]) -> Runs:
    """The mappings whose borders, protection or backing were others, or that were not there."""
    old = {vma.start: vma for vma in before}
    return _pages([vma for vma in now if old.get(vma.start) != vma])


def touching(vmas: Sequence[Vma]) -> Runs:
    """Anonymous mappings side by side: changing the protection of one merges it with the other."""
    found: list[Vma] = []
    for left, right in pairwise(vmas):
        if left.end == right.start and _anonymous(left) and _anonymous(right):
            found += (left, right)
    return _pages(found)


def mergeable(pid: int) -> Runs:
    """Memory of which KSM merges equal pages, which loses their marks; read only if it does so in this process."""
    if not _ksm_at_work(pid):
        return EMPTY
    flags = read_vm_flags(pid).items()
    return normalise([(start // PAGE_SIZE, end // PAGE_SIZE) for (start, end), words in flags if MERGEABLE in words])


def untracked(layout: Layout) -> Runs:
    """Huge pages of MAP_HUGETLB: their pages are never marked."""
    return _pages([piece.vma for piece in layout.pieces if is_hugetlb(piece.vma)])


def _ksm_at_work(pid: int) -> bool:
    """True also if the kernel does not tell (ksm_stat: Linux 6.1)."""
    if not KSM.exists():
        return False
    try:
        words = read_text(pid, "ksm_stat").split()
    except FileNotFoundError:
        return (KSM / "run").read_text() != "0\n"
    return any(int(count) for name, count in zip(words[::2], words[1::2], strict=True) if name == "ksm_rmap_items")


def _anonymous(vma: Vma) -> bool:
    return backing_of(vma) is Backing.ANONYMOUS


def _pages(vmas: Sequence[Vma]) -> Runs:
    pairs = [(vma.start // PAGE_SIZE, vma.end // PAGE_SIZE) for vma in vmas]
    return normalise(np.array(pairs, np.uint64)) if pairs else EMPTY
