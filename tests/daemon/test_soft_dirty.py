# SPDX-License-Identifier: Apache-2.0
"""The soft-dirty tracker where the kernel has the marks: exact, and aware of every way in which a mark gets lost."""

import os
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from support.hands import MADV_DONTNEED, MREMAP_FIXED, MREMAP_MAYMOVE, NONE, RW, SHARED, Hands, R
from support.memory import PAGE
from support.mirror import Mirror, offsets
from support.torture_system import merge_equal_pages
from support.trackers import working_trackers
from support.victim import Victim

from icecore.daemon.tracker import SoftDirty, Tracker, choose, soft_dirty_lacks, write_protect_lacks
from icecore.daemon.tracker.soft_dirty_probe import keeps_marks_when_merging
from icecore.errors import KernelLacks
from icecore.inject import freeze
from icecore.kernel.arch import x86_64 as nr
from icecore.kernel.clear_refs import clear_soft_dirty
from icecore.kernel.pagemap import PM_SOFT_DIRTY, Pagemap
from icecore.kernel.procfs import read_maps

N = 64
RX = R | 4
HUGE = 512

needs_marks = pytest.mark.skipif(bool(soft_dirty_lacks()), reason=soft_dirty_lacks() or "-")


def test_which_trackers_run_here(record_property: Callable[[str, object], None]) -> None:
    """What was found by trying agrees with what each tracker is made of; and ``auto`` takes the best."""
    works = working_trackers()
    record_property("trackers", works)
    print(f"trackers under test on {os.uname().release}: {', '.join(works)}")
    assert ("soft-dirty" in works) == (not soft_dirty_lacks())
    assert ("write-protect" in works) == (not write_protect_lacks())
    best = next(name for name in ("write-protect", "soft-dirty", "content") if name in works)
    chosen = choose(os.getpid())
    assert chosen.name == best
    assert chosen.reason
    chosen.close()
    if "soft-dirty" not in works:
        with pytest.raises(KernelLacks, match="MEM_SOFT_DIRTY"):
            choose(os.getpid(), "soft-dirty")


@pytest.fixture
def hands(start: Callable[..., Victim]) -> Hands:
    return Hands(start("hands"))


@pytest.fixture
def mirror(hands: Hands) -> Iterator[Mirror]:
    tracker = SoftDirty(hands.pid)
    made = Mirror(hands.pid, tracker)
    made.start()
    yield made
    tracker.close()


def settle(mirror: Mirror) -> None:
    for _ in range(2):
        mirror.live()
    mirror.frozen()


def marks(hands: Hands, at: int, pages: int) -> list[int]:
    """The pages that the kernel says were written."""
    with Pagemap(hands.pid) as pagemap:
        return np.flatnonzero(pagemap.entries(at, at + pages * PAGE) & np.uint64(PM_SOFT_DIRTY)).tolist()


@needs_marks
def test_exactly_the_written_pages_live_and_frozen(hands: Hands, mirror: Mirror) -> None:
    at = hands.map(N)
    hands.map(1, prot=NONE)
    hands.fill(at, N)
    settle(mirror)
    for page in (0, 5, 6, N - 1):
        hands.put(at + page * PAGE, 3)
    assert offsets(mirror.frozen().dirty, at, N) == [0, 5, 6, N - 1]
    assert offsets(mirror.frozen().dirty, at, N) == [0, 5, 6, N - 1]
    assert mirror.tracker.pause_us > 0
    assert offsets(mirror.live(), at, N) == [0, 5, 6, N - 1]
    assert offsets(mirror.live(), at, N) == []
    moment = mirror.frozen()
    assert not offsets(moment.dirty, at, N)
    assert not offsets(moment.in_doubt, at, N)


def recipe(hands: Hands) -> int:
    """kernel ABI: pages 0-15 r-x or so, 16-31 writable, all clean; a new neighbour, protections to and fro, one write,
    a merge. Returns where; page 20 was written."""
    at = hands.map(N)
    hands.unmap(at, N)
    hands.map(32, at=at)
    hands.fill(at, 32)
    hands.protect(at, 16, RX)
    return at


def lose_the_mark(hands: Hands, at: int) -> None:
    hands.map(1, at=at + 32 * PAGE)
    hands.protect(at + 16 * PAGE, 16, R)
    hands.protect(at + 16 * PAGE, 16, RW)
    hands.put(at + 20 * PAGE, 99)
    hands.protect(at, 16, RW)


@needs_marks
@pytest.mark.parametrize("live", [False, True])
def test_a_write_whose_mark_the_kernel_loses_is_caught(hands: Hands, mirror: Mirror, live: bool) -> None:
    """Before Linux 6.18.37 the bits do not show the write; the tracker has it anyway."""
    at = recipe(hands)
    settle(mirror)
    lose_the_mark(hands, at)
    assert (20 in marks(hands, at, 32)) == keeps_marks_when_merging()
    if live:
        assert 20 in offsets(mirror.live(), at, 32)
    moment = mirror.frozen()
    if not live:
        assert 20 in offsets(moment.dirty, at, 32) + offsets(moment.in_doubt, at, 32)
    if not keeps_marks_when_merging():
        assert 20 not in offsets(moment.dirty, at, 32)


@needs_marks
def test_it_is_caught_though_the_mappings_look_as_before(hands: Hands, mirror: Mirror) -> None:
    at = recipe(hands)
    settle(mirror)
    before = [vma for vma in read_maps(hands.pid) if at <= vma.start < at + N * PAGE]
    lose_the_mark(hands, at)
    hands.protect(at, 16, RX)
    hands.unmap(at + 32 * PAGE, 1)
    assert [vma for vma in read_maps(hands.pid) if at <= vma.start < at + N * PAGE] == before
    mirror.frozen()


@needs_marks
def test_no_exact_takes_the_kernel_at_its_word(hands: Hands) -> None:
    """Noise is named, and a write that the kernel loses is lost: that is what ``--no-exact`` means."""
    tracker = SoftDirty(hands.pid, exact=False)
    mirror = Mirror(hands.pid, tracker)
    mirror.start()
    at = recipe(hands)
    settle(mirror)
    hands.map(1, at=at + 32 * PAGE)
    assert offsets(mirror.frozen().dirty, at, 32) == list(range(16, 32)), "a neighbour marks the whole mapping"
    hands.unmap(at + 32 * PAGE, 1)
    mirror.live()
    lose_the_mark(hands, at)
    if keeps_marks_when_merging():
        mirror.frozen()
    else:
        with pytest.raises(AssertionError, match=f"missed: {at + 20 * PAGE:#x}"):
            mirror.frozen()
    tracker.close()


@needs_marks
def test_page_tables_that_change_places(hands: Hands, mirror: Mirror) -> None:
    """mremap moves 2 MiB at a time without marking them, and the mappings look the same afterwards."""
    room = hands.map(8 * HUGE, prot=NONE)
    first = -(-room // (HUGE * PAGE)) * HUGE * PAGE
    one, other, spare = (first + index * 2 * HUGE * PAGE for index in range(3))
    for at, seed in ((one, 1), (other, 2)):
        hands.map(HUGE, at=at)
        hands.advise(at, HUGE, 15)
        hands.fill(at, HUGE, seed)
    settle(mirror)
    for source, target in ((one, spare), (other, one), (spare, other)):
        hands.remap(source, HUGE, HUGE, MREMAP_MAYMOVE | MREMAP_FIXED, target)
    hands.map(HUGE, at=spare, prot=NONE)
    assert not marks(hands, one, HUGE)
    mirror.frozen()


@needs_marks
def test_the_huge_zero_page_in_place_of_data(hands: Hands, mirror: Mirror) -> None:
    room = hands.map(3 * HUGE)
    at = -(-room // (HUGE * PAGE)) * HUGE * PAGE
    hands.advise(at, HUGE, 14)
    hands.fill(at, HUGE)
    settle(mirror)
    hands.advise(at, HUGE, MADV_DONTNEED)
    hands.get(at)
    mirror.frozen()


@needs_marks
def test_somebody_else_clears(hands: Hands, mirror: Mirror) -> None:
    at = hands.map(N)
    hands.fill(at, N)
    settle(mirror)
    hands.put(at + 7 * PAGE, 8)
    clear_soft_dirty(hands.pid)
    assert 7 not in marks(hands, at, N)
    moment = mirror.frozen()
    assert offsets(moment.in_doubt, at, N) == list(range(N))
    mirror.live()
    assert not offsets(mirror.frozen().in_doubt, at, N)


@needs_marks
def test_equal_pages_that_are_merged(hands: Hands, mirror: Mirror) -> None:
    """KSM gives a page another frame, and forgets that it was written."""
    at = hands.map(N)
    hands.map(1, prot=NONE)
    hands.advise(at, N, 12)
    hands.fill(at, N)
    settle(mirror)
    for page in (3, 9):
        hands.fill(at + page * PAGE, 1, 77)
    if not merge_equal_pages(hands.pid):
        pytest.skip("this kernel has no KSM, or we may not start it")
    assert len(marks(hands, at, N)) == 1, "the page that both are now had been one of them"
    moment = mirror.frozen()
    assert {3, 9} <= set(offsets(moment.dirty, at, N) + offsets(moment.in_doubt, at, N))


@needs_marks
def test_memory_pinned_for_a_device(hands: Hands, mirror: Mirror) -> None:
    """Registered as a buffer of io_uring: the kernel may write there without a fault, and leaves its mark for good."""
    at, room = hands.map(N), hands.map(1)
    hands.fill(at, N)
    hands.put(room, 0)
    settle(mirror)
    io_uring_setup, io_uring_register = 425, 427
    try:
        ring = hands.call(io_uring_setup, 1, room)
    except OSError as error:
        pytest.skip(f"no io_uring here: {error.strerror}")
    with open(f"/proc/{hands.pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(room + 2048)
        memory.write(np.array([at, 4 * PAGE], np.uint64).tobytes())
    hands.call(io_uring_register, ring, 0, room + 2048, 1)
    mirror.live()
    moment = mirror.frozen()
    assert {0, 1, 2, 3} <= set(offsets(moment.dirty, at, N) + offsets(moment.in_doubt, at, N))
    hands.call(nr.SYS_close, ring)


@needs_marks
def test_shared_memory_is_always_in_doubt(hands: Hands, mirror: Mirror) -> None:
    at = hands.map(N, flags=SHARED)
    hands.fill(at, 4)
    mirror.live()
    assert offsets(mirror.live(), at, N) == []
    with freeze(hands.pid):
        moment = mirror.tracker.collect_frozen(read_maps(hands.pid))
    assert offsets(moment.in_doubt, at, N) == [0, 1, 2, 3]


@needs_marks
def test_two_clients_lose_nothing_to_each_others_clear(hands: Hands) -> None:
    at = hands.map(N)
    hands.map(1, prot=NONE)
    hands.fill(at, N)
    one, other = (SoftDirty(hands.pid, ((at + a * PAGE, at + b * PAGE),)) for a, b in ((0, 40), (20, 64)))
    with freeze(hands.pid) as frozen:
        one.arm(frozen)
        other.arm(frozen)
    assert offsets(live(one, hands), at, N) == list(range(40))
    assert offsets(live(other, hands), at, N) == list(range(20, 64))
    for page in (5, 25, 30, 50):
        hands.put(at + page * PAGE, 9)
    assert offsets(live(one, hands), at, N) == [5, 25, 30]
    assert offsets(live(one, hands), at, N) == []
    hands.put(at + 31 * PAGE, 9)
    with freeze(hands.pid):
        moment = other.collect_frozen(read_maps(hands.pid))
    assert offsets(moment.dirty, at, N) == [25, 30, 31, 50]
    assert offsets(live(one, hands), at, N) == [31]
    assert offsets(live(other, hands), at, N) == [25, 30, 31, 50]
    assert offsets(live(other, hands), at, N) == []
    one.close()
    hands.put(at + 60 * PAGE, 9)
    assert offsets(live(other, hands), at, N) == [60]
    other.close()


def live(tracker: Tracker, hands: Hands) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    return tracker.collect(read_maps(hands.pid))
