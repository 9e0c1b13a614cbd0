# SPDX-License-Identifier: Apache-2.0
"""Each thing that a process can do to its memory, against each tracker: nothing is missed.

After every event the mirror, which knows only what the tracker named, is compared with the target's memory.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support.hands import (
    MADV_COLLAPSE,
    MADV_DONTNEED,
    MADV_GUARD_INSTALL,
    MADV_GUARD_REMOVE,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    NONE,
    PRIVATE,
    RW,
    SHARED,
    Hands,
    R,
)
from support.memory import PAGE
from support.mirror import Mirror, offsets
from support.trackers import working_trackers
from support.victim import Victim

from icecore.daemon.tracker import Tracker, choose
from icecore.kernel.arch import x86_64 as nr

N = 64


@pytest.fixture
def hands(start: Callable[..., Victim]) -> Hands:
    return Hands(start("hands"))


@pytest.fixture(params=working_trackers())
def tracker(request: pytest.FixtureRequest, hands: Hands) -> Iterator[Tracker]:
    made = choose(hands.pid, str(request.param))
    yield made
    made.close()


@pytest.fixture
def mirror(hands: Hands, tracker: Tracker) -> Mirror:
    made = Mirror(hands.pid, tracker)
    made.start()
    return made


@pytest.fixture(params=["live", "frozen", "twice"])
def rounds(request: pytest.FixtureRequest, mirror: Mirror) -> "Rounds":
    return Rounds(mirror, str(request.param))


class Rounds:
    """Events followed by a frozen round, with no, one or two live ones before it."""

    def __init__(self, mirror: Mirror, how: str) -> None:
        self.mirror = mirror
        self.how = how

    def settle(self) -> None:
        self.mirror.live()
        self.mirror.frozen()

    def look(self) -> None:
        if self.how != "frozen":
            self.mirror.live()
        if self.how == "twice":
            self.mirror.live()
        self.mirror.frozen()


def test_the_first_round_has_everything(hands: Hands, mirror: Mirror) -> None:
    at = hands.map(N)
    hands.fill(at, N // 2)
    hands.get(at + (N - 1) * PAGE)
    moment = mirror.frozen()
    assert offsets(moment.populated, at, N) == list(range(N // 2))
    assert offsets(moment.zero, at, N) == [N - 1]


def test_writes(hands: Hands, rounds: Rounds) -> None:
    at = hands.map(N)
    hands.fill(at, N)
    rounds.settle()
    for seed in range(4):
        for page in (0, 7, 8, 31 + seed, N - 1):
            hands.put(at + page * PAGE + 100, 50 + seed)
        rounds.look()


def test_first_touch_by_reading_and_by_writing(hands: Hands, rounds: Rounds) -> None:
    at = hands.map(N)
    rounds.settle()
    hands.get(at)
    hands.put(at + PAGE)
    rounds.look()
    hands.put(at)
    rounds.look()


def test_map_unmap_and_map_again(hands: Hands, rounds: Rounds) -> None:
    at = hands.map(N)
    hands.fill(at, N)
    rounds.settle()
    hands.unmap(at + 8 * PAGE, 8)
    rounds.look()
    hands.map(8, at=at + 8 * PAGE)
    rounds.look()
    hands.put(at + 9 * PAGE, 9)
    rounds.look()
    hands.map(16, at=at)
    hands.fill(at, 4, seed=5)
    rounds.look()
    other = hands.map(N)
    hands.fill(other, N, seed=6)
    rounds.look()
    hands.unmap(other, N)
    hands.unmap(at, N)
    rounds.look()


def test_remap_grows_in_place(hands: Hands, rounds: Rounds) -> None:
    at = hands.map(2 * N)
    hands.unmap(at + N * PAGE, N)
    hands.fill(at, N)
    rounds.settle()
    assert hands.remap(at, N, 2 * N) == at
    rounds.look()
    hands.fill(at + N * PAGE, 4, seed=2)
    hands.put(at + 3 * PAGE, 3)
    rounds.look()
    hands.remap(at, 2 * N, 4)
    rounds.look()


def test_remap_moves(hands: Hands, rounds: Rounds) -> None:
    at, target = hands.map(N), hands.map(N)
    hands.fill(at, 8)
    hands.fill(target, N, seed=3)
    rounds.settle()
    hands.remap(at, N, N, MREMAP_MAYMOVE | MREMAP_FIXED, target)
    rounds.look()
    hands.put(target + PAGE, 77)
    hands.map(N, at=at)
    hands.put(at, 1)
    rounds.look()
    hands.remap(target + 2 * PAGE, 4, 4, MREMAP_MAYMOVE | MREMAP_FIXED, at + 20 * PAGE)
    rounds.look()


def test_protections_split_and_merge(hands: Hands, rounds: Rounds) -> None:
    at = hands.map(N)
    hands.fill(at, N)
    rounds.settle()
    hands.protect(at + 8 * PAGE, 8, R)
    hands.put(at + 20 * PAGE, 20)
    rounds.look()
    hands.protect(at + 12 * PAGE, 20, NONE)
    rounds.look()
    hands.protect(at, N, RW)
    rounds.look()
    hands.put(at + 13 * PAGE, 14)
    rounds.look()


def test_the_recipe_that_loses_a_write_under_soft_dirty(hands: Hands, rounds: Rounds) -> None:
    at = hands.map(N)
    hands.fill(at, 16)
    hands.protect(at + 16 * PAGE, N - 16, R)
    hands.unmap(at + 32 * PAGE, N - 32)
    hands.fill(at, 16)
    rounds.settle()
    hands.map(16, at=at + 32 * PAGE, prot=R)
    hands.protect(at + 16 * PAGE, 32, NONE)
    hands.protect(at + 16 * PAGE, 32, RW)
    hands.put(at + 20 * PAGE, 1)
    rounds.look()


def test_the_heap_grows_and_shrinks(hands: Hands, rounds: Rounds) -> None:
    start = hands.brk()
    hands.brk(start + N * PAGE)
    hands.fill(start, N)
    rounds.settle()
    hands.brk(start + 2 * N * PAGE)
    hands.put(start + N * PAGE, 4)
    rounds.look()
    hands.put(start + 2 * PAGE, 4)
    hands.put(start + (2 * N - 1) * PAGE, 4)
    rounds.look()
    hands.brk(start + 8 * PAGE)
    rounds.look()
    hands.brk(start + N * PAGE)
    rounds.look()


def test_discarded_pages_do_not_come_back(hands: Hands, rounds: Rounds) -> None:
    at = hands.map(N)
    hands.fill(at, N)
    rounds.settle()
    hands.advise(at, 16, MADV_DONTNEED)
    hands.get(at + 2 * PAGE)
    hands.put(at + 3 * PAGE, 3)
    rounds.look()
    hands.get(at + 4 * PAGE)
    hands.put(at + 2 * PAGE, 3)
    rounds.look()


def test_guard_pages_come_and_go(hands: Hands, rounds: Rounds) -> None:
    at = hands.map(N)
    hands.fill(at, N)
    rounds.settle()
    try:
        hands.advise(at + 4 * PAGE, 4, MADV_GUARD_INSTALL)
    except OSError as error:
        pytest.skip(f"this kernel has no guard pages (Linux 6.13): {error.strerror}")
    rounds.look()
    hands.put(at + 3 * PAGE, 3)
    hands.advise(at + 6 * PAGE, 2, MADV_GUARD_REMOVE)
    hands.put(at + 7 * PAGE, 7)
    rounds.look()


def test_copy_on_write_after_fork(hands: Hands, rounds: Rounds) -> None:
    at = hands.map(N)
    hands.fill(at, N)
    rounds.settle()
    hands.fork(at + PAGE, 200)
    rounds.look()
    hands.put(at + PAGE, 100)
    hands.put(at + 2 * PAGE, 100)
    rounds.look()
    hands.fork(at + 3 * PAGE, 201)
    hands.put(at + 3 * PAGE, 101)
    rounds.look()


def test_private_file_pages_written_and_reverted(hands: Hands, rounds: Rounds, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(np.random.default_rng(1).bytes(N * PAGE))
    room = hands.map(1)
    hands.put(room, 0)
    at = hands.map(N, flags=2, fd=hands.open(path, room))
    for page in range(32):
        hands.get(at + page * PAGE)
    hands.put(at + 40 * PAGE, 1)
    rounds.settle()
    for page in (0, 5, 50):
        hands.put(at + page * PAGE, 3)
    rounds.look()
    assert {0, 5, 40, 50} == set(offsets(rounds.mirror.frozen().populated, at, N))
    hands.advise(at, 32, MADV_DONTNEED)
    rounds.look()
    hands.get(at)
    hands.put(at + 6 * PAGE, 9)
    rounds.look()
    hands.get(at + 5 * PAGE)
    rounds.look()
    assert {6, 40, 50} == set(offsets(rounds.mirror.frozen().populated, at, N))


def test_the_page_cache_is_reclaimed_under_private_file_pages(hands: Hands, rounds: Rounds, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(np.random.default_rng(1).bytes(N * PAGE))
    room = hands.map(1)
    hands.put(room, 0)
    at = hands.map(N, flags=2, fd=hands.open(path, room))
    for page in range(N):
        hands.get(at + page * PAGE)
    hands.put(at + PAGE, 1)
    rounds.settle()
    madv_pageout = 21
    hands.advise(at, N, madv_pageout)
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)
    rounds.look()
    assert offsets(rounds.mirror.frozen().populated, at, N) == [1]


def test_shared_anonymous_memory(hands: Hands, rounds: Rounds) -> None:
    at = hands.map(N, flags=SHARED)
    hands.fill(at, 8)
    rounds.settle()
    hands.put(at + PAGE, 8)
    hands.put(at + 20 * PAGE, 8)
    rounds.look()
    hands.advise(at, 4, MADV_DONTNEED)
    rounds.look()
    hands.fork(at + 3 * PAGE, 99)
    hands.fork(at + 30 * PAGE, 98)
    rounds.look()
    madv_remove = 9
    hands.advise(at, 8, madv_remove)
    rounds.look()


def test_shared_memory_mapped_twice(hands: Hands, rounds: Rounds) -> None:
    at = hands.map(N, flags=SHARED)
    hands.fill(at, 8)
    again = hands.remap(at, 0, N, MREMAP_MAYMOVE)
    rounds.settle()
    hands.put(again + PAGE, 5)
    hands.put(again + 40 * PAGE, 5)
    rounds.look()
    assert hands.get(at + PAGE) == 5


def test_huge_pages(hands: Hands, rounds: Rounds) -> None:
    huge = 512
    room = hands.map(3 * huge)
    at = -(-room // (huge * PAGE)) * huge * PAGE
    hands.advise(at, 2 * huge, 14)
    hands.put(at, 1)
    hands.get(at + huge * PAGE)
    rounds.settle()
    hands.put(at + 5 * PAGE, 1)
    hands.put(at + (huge + 5) * PAGE, 1)
    rounds.look()
    hands.advise(at + 16 * PAGE, 16, MADV_DONTNEED)
    rounds.look()
    try:
        hands.advise(at, huge, MADV_COLLAPSE)
    except OSError:
        return  # refused while pages are protected
    rounds.look()


def test_writes_from_outside(hands: Hands, rounds: Rounds) -> None:
    at = hands.map(N)
    hands.fill(at, N)
    rounds.settle()
    with open(f"/proc/{hands.pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(at + 9 * PAGE)
        memory.write(b"outside")
    fd = hands.open(Path("/dev/urandom"), at)
    hands.call(nr.SYS_read, fd, at + 11 * PAGE, 100)
    rounds.look()


def test_anonymous_memory_without_reserve_costs_nothing(hands: Hands, rounds: Rounds) -> None:
    at = hands.map(1 << 20, flags=PRIVATE | 0x4000, prot=NONE)
    rounds.settle()
    hands.protect(at + 4096 * PAGE, 16, RW)
    hands.put(at + 4097 * PAGE, 1)
    rounds.look()
