# SPDX-License-Identifier: Apache-2.0
"""Several clients of one process: overlapping ranges, one state of tracking, and no page lost to another's collect."""

import mmap
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.hands import MADV_DONTNEED, SHARED, Hands
from support.memory import PAGE
from support.mirror import offsets
from support.programs import c_program
from support.trackers import working_trackers
from support.victim import Victim

from icecore.daemon.tracker import Collected, Ranges, Tracker, choose
from icecore.inject import freeze
from icecore.kernel.procfs import read_maps, read_vm_flags
from icecore.storage.runs import Runs, contains, count, normalise, subtract

N = 64
KERNEL_TRACKERS = [name for name in working_trackers() if name != "content"]
Clients = Callable[..., list[Tracker]]

protected = pytest.mark.parametrize("clients", [n for n in KERNEL_TRACKERS if n == "write-protect"], indirect=True)
"""What only write protection does: nothing outside the ranges is touched, and growth makes no noise."""


@pytest.fixture
def hands(start: Callable[..., Victim]) -> Hands:
    return Hands(start("hands"))


@pytest.fixture(params=KERNEL_TRACKERS)
def clients(request: pytest.FixtureRequest, hands: Hands) -> Iterator[Clients]:
    """Armed trackers, one for each set of ranges."""
    with ExitStack() as stack:

        def make(*wanted: Ranges) -> list[Tracker]:
            made = [choose(hands.pid, request.param, ranges) for ranges in wanted]
            for tracker in made:
                stack.callback(tracker.close)
                with freeze(hands.pid) as frozen:
                    tracker.arm(frozen)
            return list(made)

        yield make


def span(at: int, first: int, last: int) -> tuple[int, int]:
    return at + first * PAGE, at + last * PAGE


def live(hands: Hands, tracker: Tracker) -> Runs:
    return tracker.collect(read_maps(hands.pid))


def look(hands: Hands, tracker: Tracker) -> Collected:
    with freeze(hands.pid):
        return tracker.collect_frozen(read_maps(hands.pid))


def test_what_one_collects_stays_pending_for_the_other(hands: Hands, clients: Clients) -> None:
    at = hands.map(N)
    hands.fill(at, N)
    one, other = clients((span(at, 0, 40),), (span(at, 20, 64),))
    assert offsets(live(hands, one), at, N) == list(range(40))
    assert offsets(live(hands, other), at, N) == list(range(20, 64))
    for page in (5, 25, 30, 50):
        hands.put(at + page * PAGE)
    assert offsets(live(hands, one), at, N) == [5, 25, 30]
    assert offsets(live(hands, one), at, N) == []
    hands.put(at + 30 * PAGE, 2)
    hands.put(at + 31 * PAGE, 2)
    assert offsets(look(hands, other).dirty, at, N) == [25, 30, 31, 50]
    assert offsets(live(hands, one), at, N) == [30, 31]
    assert offsets(live(hands, other), at, N) == [25, 30, 31, 50]
    assert offsets(live(hands, other), at, N) == []
    for tracker in (one, other):
        assert not count(look(hands, tracker).dirty)
        assert not count(look(hands, tracker).in_doubt)


def test_a_newcomer_is_told_of_everything_once(hands: Hands, clients: Clients) -> None:
    at = hands.map(N)
    hands.fill(at, 32)
    hands.get(at + 40 * PAGE)
    (one,) = clients(())
    assert offsets(live(hands, one), at, N) == list(range(32))
    (late,) = clients((span(at, 16, 64),))
    moment = look(hands, late)
    assert offsets(moment.dirty, at, N) == list(range(16, 32))
    assert offsets(moment.zero, at, N) == [40]
    assert offsets(live(hands, late), at, N) == list(range(16, 32))
    assert offsets(live(hands, late), at, N) == []
    hands.put(at + 20 * PAGE, 7)
    assert offsets(live(hands, one), at, N) == [20]
    assert offsets(live(hands, late), at, N) == [20]


def test_discarded_pages_are_not_pending(hands: Hands, clients: Clients) -> None:
    at = hands.map(N)
    hands.fill(at, N)
    one, other = clients((), ())
    live(hands, one)
    live(hands, other)
    hands.put(at + 3 * PAGE, 9)
    hands.put(at + 4 * PAGE, 9)
    assert offsets(live(hands, one), at, N) == [3, 4]
    hands.advise(at + 3 * PAGE, 1, MADV_DONTNEED)
    assert offsets(live(hands, other), at, N) == [4]
    hands.unmap(at, N)
    assert offsets(live(hands, other), at, N) == []


def test_a_private_file_mapping(hands: Hands, clients: Clients, tmp_path: Path) -> None:
    """A page is named when it becomes the process's own, to each client, and no page of the file is."""
    path = tmp_path / "file"
    path.write_bytes(bytes(16 * PAGE))
    at = hands.map(16, flags=mmap.MAP_PRIVATE, fd=hands.open(path, hands.map(1)))
    hands.put(at)
    for page in range(16):
        hands.get(at + page * PAGE)
    one, other = clients((str(path),), (span(at, 0, 8),))
    assert offsets(live(hands, one), at, 16) == offsets(live(hands, other), at, 16) == [0]
    for page in (3, 12):
        hands.put(at + page * PAGE, 1)
    assert offsets(live(hands, one), at, 16) == [3, 12]
    moment = look(hands, other)
    assert (offsets(moment.populated, at, 16), offsets(moment.dirty, at, 16)) == ([0, 3], [3])
    assert offsets(live(hands, other), at, 16) == [3]
    assert offsets(look(hands, one).populated, at, 16) == [0, 3, 12]
    assert not count(look(hands, one).dirty)


def test_shared_memory_is_in_doubt_for_everybody(hands: Hands, clients: Clients) -> None:
    at = hands.map(16, flags=SHARED)
    hands.fill(at, 8)
    for tracker in clients((span(at, 0, 16),), (span(at, 4, 16),)):
        live(hands, tracker)
    one, other = clients((span(at, 0, 16),), (span(at, 4, 16),))
    assert offsets(look(hands, one).in_doubt, at, 16) == list(range(8))
    assert offsets(look(hands, other).in_doubt, at, 16) == list(range(4, 8))


@protected
def test_the_heap_by_name_as_it_grows_and_shrinks(hands: Hands, clients: Clients) -> None:
    start = hands.brk()
    hands.brk(start + N * PAGE)
    hands.fill(start, N)
    heap, whole = clients(("heap",), ())
    live(hands, whole)
    assert offsets(live(hands, heap), start, 2 * N) == list(range(N))
    hands.brk(start + 2 * N * PAGE)
    hands.fill(start + N * PAGE, 8)
    hands.put(start, 3)
    assert offsets(live(hands, whole), start, 2 * N) == [0, *range(N, N + 8)]  # before the other knows that it grew
    moment = look(hands, heap)
    assert offsets(moment.dirty, start, 2 * N) == [0, *range(N, N + 8)]
    assert offsets(live(hands, heap), start, 2 * N) == [0, *range(N, N + 8)]
    assert offsets(live(hands, heap), start, 2 * N) == []
    hands.brk(start + 4 * PAGE)
    assert offsets(look(hands, heap).populated, start, 2 * N) == [0, 1, 2, 3]
    hands.brk(start + 8 * PAGE)
    hands.put(start + 6 * PAGE, 4)
    assert offsets(live(hands, whole), start, 2 * N) == [6]
    assert offsets(live(hands, heap), start, 2 * N) == [6]


@protected
def test_the_stack_by_name_though_another_has_split_it(hands: Hands, clients: Clients) -> None:
    stack = next(vma for vma in read_maps(hands.pid) if vma.path == "[stack]")
    part, whole = clients(((stack.end - 2 * PAGE, stack.end - PAGE),), ("stack",))
    live(hands, part)
    assert len([vma for vma in read_maps(hands.pid) if stack.start <= vma.start < stack.end]) > 1
    pages = (stack.end - stack.start) // PAGE
    held = offsets(look(hands, whole).populated, stack.start, pages)
    assert held[-1] == pages - 1
    assert count(look(hands, whole).populated) == len(held)


@protected
def test_leaving_keeps_what_the_others_watch(hands: Hands, clients: Clients) -> None:
    at = hands.map(N)
    hands.fill(at, N)
    one, other = clients((span(at, 0, 32),), (span(at, 16, 48),))
    live(hands, one)
    live(hands, other)
    hands.put(at + 20 * PAGE, 9)
    live(hands, one)
    one.close()
    watched = [borders for borders, flags in read_vm_flags(hands.pid).items() if "uw" in flags]
    assert watched == [span(at, 16, 48)]
    hands.put(at + 30 * PAGE, 9)
    assert offsets(live(hands, other), at, N) == [20, 30]
    other.close()
    assert not any("uw" in flags for flags in read_vm_flags(hands.pid).values())


def test_after_an_exec_both_begin_anew(hands: Hands, clients: Clients) -> None:
    one, other = clients((), ("stack",))
    live(hands, one)
    live(hands, other)
    hands.victim.expect("ready", f"exec {c_program('hands')}")
    assert not one.alive()
    one.close()
    (again,) = clients(())  # while the other one still has the old address space
    assert again.alive()
    assert not other.alive()
    assert count(live(hands, again))
    at = hands.map(4)
    hands.put(at)
    assert offsets(live(hands, again), at, 4) == [0]


class Expected:
    """What a client must be told next: exactly the pages that were written in its ranges since it was told last."""

    def __init__(self, tracker: Tracker, pages: Sequence[int]) -> None:
        self.tracker = tracker
        self.pages = set(pages)
        self.owed: set[int] = set()
        self.missed = self.false = 0

    def compare(self, told: Runs, at: int) -> None:
        found = set(offsets(told, at, N))
        self.missed += len(self.owed - found)
        self.false += len(found - self.owed)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_page_missed_and_none_false_at_different_intervals(hands: Hands, clients: Clients, seed: int) -> None:
    dice = random.Random(seed)
    at = hands.map(N)
    hands.fill(at, N)
    wide, narrow, rest = clients((span(at, 0, 48),), (span(at, 8, 16), span(at, 32, 40)), (span(at, 30, 64),))
    every = {
        1: Expected(wide, range(48)),
        3: Expected(narrow, [*range(8, 16), *range(32, 40)]),
        7: Expected(rest, range(30, 64)),
    }
    for client in every.values():
        live(hands, client.tracker)
    for step in range(1, 100):
        for page in dice.sample(range(N), 5):
            hands.put(at + page * PAGE + 8, step % 256)
            for client in every.values():
                client.owed |= {page} & client.pages
        for interval, client in every.items():
            if step % interval == 0:
                client.compare(look(hands, client.tracker).dirty, at)
                client.compare(live(hands, client.tracker), at)
                client.owed.clear()
    assert [(client.missed, client.false) for client in every.values()] == [(0, 0)] * 3


def test_nothing_outside_the_ranges_is_named(hands: Hands, clients: Clients) -> None:
    at = hands.map(N)
    hands.fill(at, N)
    one, _ = clients((span(at, 4, 8),), ())
    inside = normalise([(at // PAGE + 4, at // PAGE + 8)])
    assert not count(subtract(live(hands, one), inside))
    moment = look(hands, one)
    for runs in (moment.dirty, moment.populated, moment.zero, moment.guard, moment.in_doubt):
        assert contains(inside, runs.reshape(-1)[::2]).all()
    assert count(moment.populated) == 4
