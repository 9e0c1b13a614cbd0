# SPDX-License-Identifier: Apache-2.0
"""Two clients of one process with overlapping ranges and different intervals: each chain is exact, page by page."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.hands import MADV_DONTNEED, Hands
from support.memory import PAGE
from support.trackers import working_trackers
from support.victim import Victim

from icecore.daemon.engine import Checkpointer
from icecore.daemon.target import Target
from icecore.daemon.tracker import Ranges
from icecore.errors import UsageError
from icecore.inject import freeze
from icecore.kernel.procfs import read_maps
from icecore.storage.chain import Chain
from icecore.storage.runs import expand, union
from icecore.storage.store import Store

Content = dict[int, bytes]


@pytest.fixture
def hands(start: Callable[..., Victim]) -> Hands:
    return Hands(start("hands"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", create=True)


@pytest.fixture
def target(hands: Hands) -> Iterator[Target]:
    with Target.open(hands.pid) as found:
        yield found


def truth(pid: int, spans: list[tuple[int, int]]) -> Content:
    """Every page of the spans, read by other means than the engine's."""
    found: Content = {}
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for start, end in spans:
            for address in range(start, end, PAGE):
                memory.seek(address)
                found[address // PAGE] = memory.read(PAGE)
    return found


@dataclass
class Client:
    """One chain, and the two counters."""

    checkpointer: Checkpointer
    chain: Chain
    spans: Callable[[], list[tuple[int, int]]]
    before: Content = field(default_factory=dict[int, bytes])
    missed: int = 0
    false: int = 0

    def checkpoint(self) -> None:
        report = self.checkpointer.checkpoint()
        now = truth(self.checkpointer.target.pid, self.spans())
        with self.chain.reader() as reader:
            held = union(reader.data, reader.zero)
            kept = dict(zip(expand(held).tolist(), map(bytes, reader.read(held)), strict=True))
        assert kept.keys() <= now.keys()
        self.missed += sum(kept.get(page, bytes(PAGE)) != content for page, content in now.items())
        changed = [page for page, content in now.items() if content != self.before.get(page) and any(content)]
        self.false += max(0, report.pages_stored - len(changed))
        self.before = {page: content for page, content in now.items() if page in kept}


@dataclass
class HeapWork:
    """Random things that a program does to its heap."""

    hands: Hands
    start: int
    dice: random.Random
    pages: int = 40

    def step(self) -> None:
        match self.dice.randrange(6):
            case 0:
                self.pages = self.dice.randrange(20, 80)
                self.hands.brk(self.start + self.pages * PAGE)
            case 1:
                at = self.start + self.dice.randrange(self.pages - 4) * PAGE
                self.hands.advise(at, self.dice.randrange(1, 4), MADV_DONTNEED)
            case 2:
                self.hands.get(self.start + self.dice.randrange(self.pages) * PAGE)
            case _:
                for _ in range(5):
                    self.hands.put(self.start + self.dice.randrange(self.pages * PAGE), self.dice.randrange(256))


@pytest.mark.parametrize("name", working_trackers())
@pytest.mark.parametrize("seed", [1, 2])
def test_neither_misses_nor_stores_too_much(hands: Hands, target: Target, store: Store, name: str, seed: int) -> None:
    dice = random.Random(seed)
    start = hands.brk()
    hands.brk(start + 40 * PAGE)
    part = (start + 10 * PAGE, start + 70 * PAGE)

    def heap() -> list[tuple[int, int]]:
        return [(vma.start, vma.end) for vma in read_maps(hands.pid) if vma.path == "[heap]"]

    def inside() -> list[tuple[int, int]]:
        return [(max(low, part[0]), min(high, part[1])) for low, high in heap() if low < part[1] and high > part[0]]

    clients = [
        Client(Checkpointer.open(target, chain, name, ranges), chain, spans)
        for chain, ranges, spans in (
            (store.create_chain("heap"), ("heap",), heap),
            (store.create_chain("part"), (part,), inside),
        )
    ]
    work = HeapWork(hands, start, dice)
    for step in range(60):
        work.step()
        if step % 2 == 0:
            clients[0].checkpoint()
        if step % 5 == 0:
            clients[1].checkpoint()
    for client in clients:
        client.checkpoint()
        client.checkpointer.close()
    assert [(client.missed, client.false) for client in clients] == [(0, 0), (0, 0)]


def test_at_the_same_time_from_two_threads(start: Callable[..., Victim], store: Store) -> None:
    """While it counts: neither finds the other's freeze in its way, and what each keeps is of one moment."""
    victim = start("counter")
    chains = [store.create_chain(name) for name in ("whole", "heap", "stack")]
    wanted: list[Ranges] = [(), ("heap",), ("heap", "stack")]

    def take(chain: Chain, ranges: Ranges) -> int:
        with Target.open(victim.pid) as target, Checkpointer.open(target, chain, ranges=ranges) as engine:
            return [engine.checkpoint().id for _ in range(25)][-1]

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(take, chains, wanted)) == [25, 25, 25]
    victim.expect("ok", "check")
    victim.kill()
    with chains[0].reader() as reader, Victim.restored_from(reader) as back:
        back.expect("ok", "check")


def test_what_a_checkpoint_of_ranges_says(hands: Hands, target: Target, store: Store) -> None:
    at = hands.map(8)
    hands.fill(at, 4)
    chain = store.create_chain("part")
    with Checkpointer.open(target, chain, ranges=((at, at + 6 * PAGE), "stack")) as engine:
        report = engine.checkpoint()
        assert report.tracker_reason
    info = chain.info(1)
    assert (info.ranges, info.pid, info.start_time, info.comm) == (True, hands.pid, target.start_time, target.comm)
    with chain.reader() as reader:
        memory = reader.memory
    assert memory is not None
    assert memory.asked == (f"{at:x}-{at + 6 * PAGE:x}", "stack")
    assert (at, at + 6 * PAGE) in memory.ranges
    assert [(m.start, m.end, m.kind, m.prot) for m in memory.mappings][:1] == [(at, at + 6 * PAGE, "anon", 3)]
    assert memory.mappings[-1].path == "[stack]"


def test_a_range_without_memory_is_refused_by_name(hands: Hands, target: Target, store: Store) -> None:
    chain = store.create_chain("none")
    for ranges in (((0x1000, 0x2000),), ("/no/such/library",), ("stack", "[anon:none]")):
        with pytest.raises(UsageError, match="no memory of its own at"):
            Checkpointer.open(target, chain, ranges=ranges)


def test_a_chain_keeps_one_kind(hands: Hands, target: Target, store: Store) -> None:
    chain = store.create_chain("job")
    with Checkpointer.open(target, chain, ranges=("stack",)) as engine:
        engine.checkpoint()
    with pytest.raises(UsageError, match="keeps ranges of a process"):
        Checkpointer.open(target, chain)


def test_what_one_owes_after_a_failure_stays_its_own(hands: Hands, target: Target, store: Store) -> None:
    """A checkpoint that fails after it collected: neither it nor the other loses the pages."""
    at = hands.map(16)
    hands.fill(at, 16)
    chains = [store.create_chain("one"), store.create_chain("two")]
    one, two = (Checkpointer.open(target, chain, ranges=((at, at + 16 * PAGE),)) for chain in chains)
    one.checkpoint()
    two.checkpoint()
    hands.put(at + 5 * PAGE, 1)
    with chains[0].writer(), pytest.raises(Exception, match="one"):
        one.checkpoint()

    def fail(step: object) -> None:
        if getattr(step, "phase", "") == "freeze":
            raise RuntimeError("one")

    with pytest.raises(RuntimeError, match="one"):
        one.checkpoint(progress=fail)
    now = truth(hands.pid, [(at, at + 16 * PAGE)])
    for engine, chain in ((two, chains[1]), (one, chains[0])):
        assert engine.checkpoint().pages_stored == 1
        with chain.reader() as reader:
            assert dict(zip(expand(reader.data).tolist(), map(bytes, reader.read(reader.data)), strict=True)) == now
        engine.close()


def test_freezing_twice_is_the_tracer_s_business(hands: Hands) -> None:
    """A thread of ours that has it frozen is no debugger: the target can be opened meanwhile."""
    with freeze(hands.pid):
        Target.open(hands.pid).close()
