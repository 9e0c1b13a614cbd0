# SPDX-License-Identifier: Apache-2.0
"""Tracking must not change what the target sees, and what cannot be hidden is what docs/tracking.md says."""

import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support.hands import MADV_COLLAPSE, MREMAP_FIXED, MREMAP_MAYMOVE, Hands
from support.memory import PAGE
from support.mirror import Mirror
from support.programs import c_program
from support.trackers import working_trackers
from support.victim import Victim

from icecore.daemon.tracker import choose
from icecore.kernel.procfs import read_maps, read_vm_flags

HUGE = 512
EVENTS = 0x7E  # UFFD_FEATURE_EVENT_* and MISSING_* (include/uapi/linux/userfaultfd.h): each makes the target wait

needs_write_protect = pytest.mark.skipif("write-protect" not in working_trackers(), reason="no write-protect here")


@pytest.fixture
def hands(start: Callable[..., Victim]) -> Hands:
    return Hands(start("hands"))


@pytest.fixture(params=working_trackers())
def mirror(request: pytest.FixtureRequest, hands: Hands) -> Iterator[Mirror]:
    tracker = choose(hands.pid, str(request.param))
    yield Mirror(hands.pid, tracker)
    tracker.close()


def armed(mirror: Mirror) -> None:
    mirror.start()
    mirror.live()
    mirror.frozen()
    mirror.live()


def usage(pid: int, at: int) -> list[str]:
    """What the process is told about its memory: page tables and swap of all of it, and the mapping at an address."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    found = [line for line in lines if line.startswith(("VmPTE", "VmSwap", "VmSize"))]
    _, _, tail = Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").partition(f"\n{at:x}-")
    return found + [
        line for line in tail.splitlines()[1:20] if line.startswith(("Rss", "Pss:", "Private", "Anonymous"))
    ]


def huge_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8", errors="replace").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages"))


def entries(pid: int, at: int, pages: int) -> list[int]:
    """Present, swapped (markers are that too) and guard bits; which of them the protection sets is bit 57."""
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as file:
        file.seek(at // PAGE * 8)
        found = np.frombuffer(file.read(pages * 8), np.uint64)
    return [int(entry) >> 62 for entry in found]


def huge_room(hands: Hands, pages: int) -> int:
    room = hands.map(pages + HUGE)
    at = -(-room // (HUGE * PAGE)) * HUGE * PAGE
    hands.advise(at, pages, mmap.MADV_HUGEPAGE)
    return at


def test_memory_use_and_holes_stay_as_they_were(hands: Hands, mirror: Mirror) -> None:
    at = hands.map(1 << 16)
    for page in (0, 7, 513, 40000):
        hands.put(at + page * PAGE)
    hands.get(at + 9 * PAGE)
    before = entries(hands.pid, at, 1 << 16), usage(hands.pid, at)
    armed(mirror)
    assert (entries(hands.pid, at, 1 << 16), usage(hands.pid, at)) == before


def test_huge_pages_are_kept_until_they_are_written(hands: Hands, mirror: Mirror) -> None:
    at = huge_room(hands, 3 * HUGE)
    hands.put(at)
    hands.put(at + HUGE * PAGE)
    if huge_kb(hands.pid) != 4096:
        pytest.skip("no transparent huge pages here")
    armed(mirror)
    hands.get(at + 5 * PAGE)
    assert huge_kb(hands.pid) == 4096
    hands.put(at + 2 * HUGE * PAGE)
    assert huge_kb(hands.pid) == 6144, "memory that was not populated takes huge pages as before"
    hands.put(at + 5 * PAGE, 2)
    assert huge_kb(hands.pid) == (4096 if mirror.tracker.name == "write-protect" else 6144), "docs/tracking.md"


@needs_write_protect
def test_the_target_never_waits_for_us(hands: Hands) -> None:
    """The kernel shows which features a userfaultfd was opened with: API:<version>:<features>:<all features>."""
    tracker = choose(hands.pid, "write-protect")
    Mirror(hands.pid, tracker).start()
    own = [fd for fd in os.listdir("/proc/self/fd") if fd_target(fd) == "anon_inode:[userfaultfd]"]
    features = [fdinfo("self", int(fd)).split(":")[2] for fd in own]
    tracker.close()
    assert features
    assert not any(int(found, 16) & EVENTS for found in features)


def fd_target(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return ""  # the one that listed them


def fdinfo(pid: str, fd: int) -> str:
    lines = Path(f"/proc/{pid}/fdinfo/{fd}").read_text(encoding="ascii").splitlines()
    return next(line for line in lines if line.startswith("API:"))


@needs_write_protect
def test_mappings_are_back_when_tracking_ends(hands: Hands) -> None:
    at = hands.map(64)
    hands.fill(at, 32)
    tracker = choose(hands.pid, "write-protect")
    armed(Mirror(hands.pid, tracker))
    hands.map(8, at=at + 64 * PAGE)
    split = len(read_maps(hands.pid))
    tracker.close()
    assert len(read_maps(hands.pid)) < split, "docs/tracking.md: more mappings while tracked"
    assert not any("uw" in flags for flags in read_vm_flags(hands.pid).values())


@needs_write_protect
def test_mremap_across_the_border_of_what_is_tracked_fails(hands: Hands) -> None:
    """What cannot be hidden: to the target this was one mapping."""
    at, to = hands.map(64), hands.map(64)
    hands.unmap(at + 32 * PAGE, 32)
    hands.fill(at, 32)
    tracker = choose(hands.pid, "write-protect")
    armed(Mirror(hands.pid, tracker))
    hands.map(32, at=at + 32 * PAGE)
    with pytest.raises(OSError, match="Bad address"):
        hands.remap(at, 64, 64, MREMAP_MAYMOVE | MREMAP_FIXED, to)
    tracker.close()
    hands.map(64, at=at)
    assert hands.remap(at, 64, 64, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to


@needs_write_protect
def test_collapse_is_refused_while_tracked(hands: Hands) -> None:
    """What cannot be hidden, also from khugepaged."""
    at = huge_room(hands, HUGE)
    hands.advise(at, HUGE, mmap.MADV_NOHUGEPAGE)
    hands.fill(at, HUGE)
    hands.advise(at, HUGE, mmap.MADV_HUGEPAGE)
    tracker = choose(hands.pid, "write-protect")
    armed(Mirror(hands.pid, tracker))
    with pytest.raises(OSError, match="Invalid argument"):
        hands.advise(at, HUGE, MADV_COLLAPSE)
    tracker.close()
    hands.advise(at, HUGE, MADV_COLLAPSE)


@needs_write_protect
def test_guards_in_a_written_private_file_mapping_do_not_return(start: Callable[..., Victim], tmp_path: Path) -> None:
    """What cannot be hidden: a loop in the kernel (6.18) that a signal handler can jump out of. Shared memory is not
    protected at all for that reason."""
    victim = start([c_program("torture"), str(tmp_path / "file")])
    tracker = choose(victim.pid, "write-protect")
    mirror = Mirror(victim.pid, tracker)
    assert victim.expect("ok", "map 0 8 1;map 8 8 2;map 16 8 3;map 24 8 0;write 0 32;advise 24 1 102") == "0 0 0 0 0 0"
    armed(mirror)
    assert victim.expect("ok", "advise 8 2 102;advise 16 2 102;advise 25 2 102") == "0 0 0"
    interrupted = "-4"
    assert victim.expect("ok", "advise 0 2 102") in ("0", interrupted)
    mirror.frozen()
    tracker.close()
    assert victim.expect("ok", "advise 0 2 102") == "0"
