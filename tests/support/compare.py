# SPDX-License-Identifier: Apache-2.0
"""Comparison of what a process held (``support.memory``) with what a checkpoint of it says."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from support.memory import PAGE, Area, Content, Pages, Snapshot

if TYPE_CHECKING:
    from icecore.storage.reader import CheckpointReader

RSEQ_BYTES = 32
SHOWN = 10
"""How many differing pages a message names."""


def stable_part(before: Snapshot, after: Snapshot) -> Snapshot:
    """The pages that were the same before and after a checkpoint; tracking may have split or joined mappings."""
    kept = np.isin(before.pages, after.pages)
    positions = np.searchsorted(after.pages, before.pages[kept])
    unchanged = np.zeros(len(before.pages), np.bool_)
    unchanged[kept] = (before.content[kept] == after.content[positions]).all(axis=1)
    guards = np.intersect1d(before.guards, after.guards)
    pages, content, from_file = before.pages[unchanged], before.content[unchanged], before.from_file[unchanged]
    unsure = np.setxor1d(np.union1d(before.pages, after.pages), pages)
    return Snapshot(after.areas, pages, content, guards, from_file, unsure)


def differences(snapshot: Snapshot, reader: "CheckpointReader") -> list[str]:
    """One line for each way in which a checkpoint differs from the snapshot; empty when it is the same moment."""
    zero, guard = _page_numbers(reader.zero), _page_numbers(reader.guard)
    rseq = [thread.rseq.address for thread in reader.process.threads if thread.rseq]
    _blank(snapshot.pages, snapshot.content, rseq)
    found: list[str] = []
    seen: list[Pages] = [np.empty(0, np.uint64)]
    for pages, content in reader.blocks():
        seen.append(pages.copy())
        _blank(pages, content, rseq)
        found += _compare_block(snapshot, pages, content)
    found += _compare_absent(snapshot, np.concatenate(seen), zero)
    found += _compare_guards(snapshot, guard)
    return found


def _blank(pages: Pages, content: Content, rseq: Sequence[int]) -> None:
    """The kernel writes the number of the processor there whenever a thread goes on, parked or not (struct rseq)."""
    for address in rseq:
        where = np.searchsorted(pages, np.uint64(address // PAGE))
        if where < len(pages) and pages[where] == address // PAGE:
            content[where, address % PAGE : address % PAGE + RSEQ_BYTES] = 0


def assert_same(snapshot: Snapshot, reader: "CheckpointReader") -> None:
    """The checkpoint holds exactly what the process held: no page missing, stale, torn or resurrected."""
    found = differences(snapshot, reader)
    assert not found, f"{len(found)} differences, the first: " + "; ".join(found[:SHOWN])


def assert_same_areas(snapshot: Snapshot, reader: "CheckpointReader") -> None:
    """The checkpoint lists exactly the mappings that the process had, neighbours of one kind joined."""
    own = [(area.start, area.end, area.permissions[:3], area.permissions[3] == "s") for area in snapshot.areas]
    theirs = [
        (m.start, m.end, "".join(c if m.prot >> bit & 1 else "-" for bit, c in enumerate("rwx")), m.shared)
        for m in reader.process.mappings
        if not m.kind.startswith(("vdso", "vvar", "vsyscall"))
    ]
    assert _joined(theirs) == _joined(own)


def _joined(areas: list[tuple[int, int, str, bool]]) -> list[tuple[int, int, str, bool]]:
    joined: list[tuple[int, int, str, bool]] = []
    for start, end, permissions, shared in sorted(areas):
        if joined and joined[-1][1:] == (start, permissions, shared):
            start = joined.pop()[0]
        joined.append((start, end, permissions, shared))
    return joined


def _page_numbers(runs: NDArray[np.uint64]) -> Pages:
    parts = [np.arange(start, end, dtype=np.uint64) for start, end in runs.tolist()]
    return np.concatenate(parts) if parts else np.empty(0, np.uint64)


def _compare_block(snapshot: Snapshot, pages: Pages, content: Content) -> list[str]:
    """Pages with bytes: the same bytes; where the process has no page, what it would read there."""
    held = np.isin(pages, snapshot.pages)
    positions = np.searchsorted(snapshot.pages, pages[held])
    other = content[held] != snapshot.content[positions]
    found = [
        _name(snapshot, int(pages[held][row]), f"differs in {_span(other[row])}")
        for row in np.flatnonzero(other.any(axis=1)).tolist()
    ]
    unheld = ~held & ~np.isin(pages, snapshot.unsure)
    for page, data in zip(pages[unheld].tolist(), content[unheld], strict=True):
        if (area := _area_of(snapshot, page)) is None:
            found.append(_name(snapshot, page, "is in the checkpoint but not mapped"))
        elif data.tobytes() != _backing(area, page):
            found.append(_name(snapshot, page, "was discarded, but the checkpoint has data"))
    return found


def _span(other: NDArray[np.bool_]) -> str:
    where = np.flatnonzero(other)
    return f"{len(where)} bytes, {where[0]:#x} to {where[-1]:#x}"


def _compare_absent(snapshot: Snapshot, listed: Pages, zero: Pages) -> list[str]:
    """Pages of the process without bytes in the checkpoint: zero, or what the file says."""
    nonzero = snapshot.content.any(axis=1)
    as_zero = np.isin(snapshot.pages, zero)
    unlisted = ~np.isin(snapshot.pages, listed) & ~as_zero
    lost = unlisted & nonzero & ~snapshot.from_file
    in_file = np.array([_is_private_file(_area_of(snapshot, page)) for page in snapshot.pages[unlisted].tolist()], bool)
    reverted = snapshot.pages[unlisted][in_file & ~snapshot.from_file[unlisted]]
    found = [_name(snapshot, page, "has data, the checkpoint nothing") for page in snapshot.pages[lost].tolist()]
    found += [_name(snapshot, page, "is zero, the checkpoint has the file's bytes") for page in reverted.tolist()]
    return found + [
        _name(snapshot, page, "has data, the checkpoint zero") for page in snapshot.pages[as_zero & nonzero].tolist()
    ]


def _compare_guards(snapshot: Snapshot, guard: Pages) -> list[str]:
    lost, added = np.setdiff1d(snapshot.guards, guard), np.setdiff1d(guard, snapshot.guards)
    found = [_name(snapshot, page, "is a guard page, in the checkpoint it is not") for page in lost.tolist()]
    return found + [_name(snapshot, page, "is no guard page, in the checkpoint it is") for page in added.tolist()]


def _area_of(snapshot: Snapshot, page: int) -> Area | None:
    low, high = 0, len(snapshot.areas)
    while low < high:
        middle = (low + high) // 2
        if snapshot.areas[middle].end <= page * PAGE:
            low = middle + 1
        else:
            high = middle
    return snapshot.areas[low] if low < len(snapshot.areas) and snapshot.areas[low].start <= page * PAGE else None


def _is_private_file(area: Area | None) -> bool:
    return area is not None and area.inode != 0 and area.permissions[3] == "p"


def _backing(area: Area, page: int) -> bytes:
    """What a page reads as that nobody has written: zero, or the file."""
    if not _is_private_file(area):
        return bytes(PAGE)
    with open(area.path, "rb") as file:
        file.seek(area.offset + page * PAGE - area.start)
        return file.read(PAGE).ljust(PAGE, b"\0")


def _name(snapshot: Snapshot, page: int, what: str) -> str:
    area = _area_of(snapshot, page)
    where = f"{area.permissions} {area.path or 'anonymous'} +{page - area.start // PAGE}" if area else "no mapping"
    return f"page {page * PAGE:#x} ({where}) {what}"
