# SPDX-License-Identifier: Apache-2.0
"""Write protection in particular: exact, mindful of ranges and of other userfaultfds, aware of its end."""

import os
import signal
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from support.hands import MADV_DONTNEED, MREMAP_MAYMOVE, NONE, RW, SHARED, Hands, R
from support.memory import PAGE
from support.mirror import Mirror, offsets
from support.programs import c_program
from support.victim import Victim

from icecore.daemon.tracker import NAMES, WriteProtect, choose, write_protect_lacks
from icecore.errors import TargetGone, UsageError
from icecore.inject import freeze
from icecore.kernel import userfaultfd
from icecore.kernel.arch import x86_64 as nr
from icecore.kernel.procfs import read_maps, read_vm_flags
from icecore.storage.runs import count

N = 64

pytestmark = pytest.mark.skipif(bool(write_protect_lacks()), reason=write_protect_lacks() or "-")


@pytest.fixture
def hands(start: Callable[..., Victim]) -> Hands:
    return Hands(start("hands"))


@pytest.fixture
def mirror(hands: Hands) -> Iterator[Mirror]:
    tracker = WriteProtect(hands.pid)
    made = Mirror(hands.pid, tracker)
    made.start()
    yield made
    tracker.close()


def settle(mirror: Mirror) -> None:
    for _ in range(2):
        mirror.live()
    mirror.frozen()


def test_exactly_the_written_pages_live_and_frozen(hands: Hands, mirror: Mirror) -> None:
    at = hands.map(N)
    hands.fill(at, N)
    settle(mirror)
    for page in (0, 5, 6, N - 1):
        hands.put(at + page * PAGE)
    assert offsets(mirror.frozen().dirty, at, N) == [0, 5, 6, N - 1]
    assert offsets(mirror.frozen().dirty, at, N) == [0, 5, 6, N - 1]
    assert offsets(mirror.live(), at, N) == [0, 5, 6, N - 1]
    assert offsets(mirror.live(), at, N) == []
    moment = mirror.frozen()
    assert offsets(moment.dirty, at, N) == []
    assert not count(moment.in_doubt)


def test_protection_and_borders_make_no_noise(hands: Hands, mirror: Mirror) -> None:
    at = hands.map(N)
    hands.fill(at, N)
    settle(mirror)
    hands.protect(at + 8 * PAGE, 8, R)
    hands.protect(at + 20 * PAGE, 8, NONE)
    assert offsets(mirror.live(), at, N) == []
    hands.protect(at, N, RW)
    hands.put(at + 22 * PAGE, 1)
    assert offsets(mirror.live(), at, N) == [22]
    hands.unmap(at + 40 * PAGE, 4)
    hands.map(4, at=at + 40 * PAGE)
    hands.put(at + 41 * PAGE, 1)
    assert offsets(mirror.live(), at, N) == [41]
    hands.remap(at, 8, 8, MREMAP_MAYMOVE)
    assert offsets(mirror.live(), at, N) == []


def test_growth_in_place_does_not_read_the_old_part_again(hands: Hands, mirror: Mirror) -> None:
    start = hands.brk()
    hands.brk(start + N * PAGE)
    hands.fill(start, N)
    settle(mirror)
    hands.brk(start + 2 * N * PAGE)
    hands.put(start + N * PAGE, 1)
    assert offsets(mirror.live(), start, 2 * N) == [N]
    at = hands.map(2 * N)
    hands.unmap(at + N * PAGE, N)
    hands.fill(at, N)
    settle(mirror)
    hands.remap(at, N, 2 * N)
    hands.put(at + (N + 3) * PAGE, 1)
    assert offsets(mirror.live(), at, 2 * N) == [N + 3]


def test_nothing_is_protected_that_was_not_there(hands: Hands, mirror: Mirror) -> None:
    """No markers in holes: page tables do not grow, and huge pages stay possible."""
    hands.map(1 << 22)
    before = page_tables_kb(hands.pid)
    settle(mirror)
    assert page_tables_kb(hands.pid) <= before + 8


def page_tables_kb(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmPTE"))


def test_the_target_keeps_nothing(hands: Hands) -> None:
    before = os.listdir(f"/proc/{hands.pid}/fd"), [(v.start, v.end, v.prot) for v in read_maps(hands.pid)]
    tracker = WriteProtect(hands.pid)
    mirror = Mirror(hands.pid, tracker)
    mirror.start()
    settle(mirror)
    assert os.listdir(f"/proc/{hands.pid}/fd") == before[0]
    assert any("uw" in flags for flags in read_vm_flags(hands.pid).values())
    tracker.close()
    assert not any("uw" in flags for flags in read_vm_flags(hands.pid).values())
    assert [(v.start, v.end, v.prot) for v in read_maps(hands.pid)] == before[1]


def test_only_the_ranges_are_watched(hands: Hands) -> None:
    at = hands.map(N)
    other = hands.map(N)
    hands.fill(at, N)
    hands.fill(other, N)
    ranges = ((at + 8 * PAGE, at + 16 * PAGE), (at + 32 * PAGE, at + 33 * PAGE))
    tracker = WriteProtect(hands.pid, ranges)
    with freeze(hands.pid) as frozen:
        tracker.arm(frozen)
    wanted = [*range(8, 16), 32]
    named = tracker.collect(read_maps(hands.pid))
    assert offsets(named, at, N) == wanted
    assert count(named) == len(wanted)
    for page in (7, 8, 16, 32, 33):
        hands.put(at + page * PAGE)
    hands.put(other)
    with freeze(hands.pid):
        moment = tracker.collect_frozen(read_maps(hands.pid))
    assert offsets(moment.dirty, at, N) == [8, 32]
    assert count(moment.dirty) == 2
    assert count(moment.populated) == len(wanted)
    tracker.close()


def test_memory_that_belongs_to_another_userfaultfd_is_in_doubt(hands: Hands, mirror: Mirror) -> None:
    at, room = hands.map(N), hands.map(1)
    hands.fill(at, N)
    fd = hands.call(nr.SYS_userfaultfd, os.O_CLOEXEC | userfaultfd.UFFD_USER_MODE_ONLY)
    ioctl(hands, fd, room, userfaultfd.UFFDIO_API, 0xAA, userfaultfd.UFFD_FEATURE_WP_ASYNC, 0)
    ioctl(hands, fd, room, userfaultfd.UFFDIO_REGISTER, at, N * PAGE, userfaultfd.UFFDIO_REGISTER_MODE_WP, 0)
    assert offsets(mirror.live(), at, N) == list(range(N))
    assert offsets(mirror.live(), at, N) == []
    hands.put(at + 3 * PAGE, 1)
    moment = mirror.frozen()
    assert offsets(moment.in_doubt, at, N) == list(range(N))
    hands.call(nr.SYS_close, fd)
    assert offsets(mirror.live(), at, N) == list(range(N))
    hands.put(at + 3 * PAGE, 2)
    moment = mirror.frozen()
    assert not count(moment.in_doubt)
    assert offsets(moment.dirty, at, N) == [3]


def ioctl(hands: Hands, fd: int, room: int, number: int, *words: int) -> None:
    with open(f"/proc/{hands.pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(room)
        memory.write(np.array(words, np.uint64).tobytes())
    hands.call(nr.SYS_ioctl, fd, number, room)


def test_shared_memory_is_always_in_doubt(hands: Hands, mirror: Mirror) -> None:
    at = hands.map(N, flags=SHARED)
    hands.fill(at, 4)
    mirror.live()
    assert offsets(mirror.live(), at, N) == []
    hands.advise(at, 4, MADV_DONTNEED)
    with freeze(hands.pid):
        moment = mirror.tracker.collect_frozen(read_maps(hands.pid))
    assert offsets(moment.in_doubt, at, N) == [0, 1, 2, 3]


def test_exit_is_target_gone(hands: Hands, mirror: Mirror) -> None:
    vmas = read_maps(hands.pid)
    mirror.live()
    assert mirror.tracker.alive()
    hands.victim.signal(signal.SIGKILL)
    os.waitid(os.P_PIDFD, hands.victim.pidfd, os.WEXITED | os.WNOWAIT)
    assert not mirror.tracker.alive()
    with pytest.raises(TargetGone):
        mirror.tracker.collect(vmas)
    with pytest.raises(TargetGone):
        mirror.tracker.collect_frozen(vmas)


def test_exec_is_target_gone(hands: Hands, mirror: Mirror) -> None:
    mirror.live()
    hands.victim.expect("ready", f"exec {c_program('hands')}")
    assert not mirror.tracker.alive()
    with pytest.raises(TargetGone):
        mirror.tracker.collect(read_maps(hands.pid))
    with freeze(hands.pid), pytest.raises(TargetGone):
        mirror.tracker.collect_frozen(read_maps(hands.pid))


def test_without_a_live_round_everything_is_dirty(hands: Hands) -> None:
    tracker = WriteProtect(hands.pid)
    with freeze(hands.pid) as frozen:
        tracker.arm(frozen)
        moment = tracker.collect_frozen(read_maps(hands.pid))
    assert np.array_equal(moment.dirty, moment.populated)
    assert count(moment.dirty)
    tracker.close()


def test_choice() -> None:
    assert choose(os.getpid()).name == "write-protect"
    assert choose(os.getpid(), "content").name == "content"
    assert set(NAMES) >= {"auto", "write-protect", "content"}
    with pytest.raises(UsageError, match="soft"):
        choose(os.getpid(), "soft")
