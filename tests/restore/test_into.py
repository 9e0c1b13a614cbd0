# SPDX-License-Identifier: Apache-2.0
"""Memory of a checkpoint into a process that runs: it is back where it was, or nothing has happened to it."""

import mmap
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support.hands import (
    MADV_DONTNEED,
    MADV_GUARD_INSTALL,
    MADV_GUARD_REMOVE,
    NONE,
    RW,
    SHARED,
    Hands,
    R,
)
from support.memory import PAGE
from support.victim import Victim

from icecore.daemon.engine import Checkpointer
from icecore.daemon.target import Target
from icecore.daemon.tracker import Ranges
from icecore.errors import Busy, CannotRestore, NoSuchProcess, NotPermitted, UsageError
from icecore.inject import freeze
from icecore.kernel import process_vm
from icecore.kernel.procfs import read_maps
from icecore.restore.into import Written, restore_into
from icecore.storage.chain import Chain
from icecore.storage.store import Store

N = 600
"""Pages: more than a block."""
Start = Callable[..., Victim]


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Store.open(tmp_path / "store", create=True).create_chain("ranges")


@pytest.fixture
def hands(start: Start) -> Hands:
    return Hands(start("hands"))


def take(chain: Chain, pid: int, *ranges: tuple[int, int] | str) -> None:
    with Target.open(pid) as target, Checkpointer.open(target, chain, ranges=ranges) as engine:
        engine.checkpoint()


def put_back(chain: Chain, pid: int, ranges: Ranges = ()) -> Written:
    with chain.reader() as reader:
        return restore_into(reader, pid, ranges)


def span(at: int, pages: int) -> tuple[int, int]:
    return at, at + pages * PAGE


def content(hands: Hands, at: int, pages: int) -> bytes:
    # Only a tracer reads what the process itself may not, where the kernel is set to proc_mem.force_override=ptrace.
    with freeze(hands.pid), open(f"/proc/{hands.pid}/mem", "rb", buffering=0) as memory:
        memory.seek(at)
        return memory.read(pages * PAGE)


def test_data_zero_pages_and_holes_are_back(hands: Hands, chain: Chain) -> None:
    at = hands.map(N)
    hands.fill(at, 560)
    hands.get(at + 570 * PAGE)
    before = content(hands, at, N)
    take(chain, hands.pid, span(at, N))
    assert put_back(chain, hands.pid).pages == 0
    for page in (0, 1, 299, 511, 512, 559, 570, 599):
        hands.put(at + page * PAGE + 7, 99)
    hands.advise(at + 3 * PAGE, 2, MADV_DONTNEED)
    written = put_back(chain, hands.pid)
    assert (written.pid, written.pages) == (hands.pid, 10)
    assert written.pause_us > 0
    assert content(hands, at, N) == before


def test_a_program_goes_on_from_where_it_was(start: Start, chain: Chain) -> None:
    victim = start("counter")
    victim.expect("parked", "park")
    own = os.readlink(f"/proc/{victim.pid}/exe")
    vmas = read_maps(victim.pid)
    (data,) = [vma for vma in vmas if vma.path == own and vma.prot == RW]
    bss = [vma for vma in vmas if vma.start == data.end and not vma.path]
    take(chain, victim.pid, "heap", (data.start, bss[0].end if bss else data.end))
    then = int(victim.expect("ok", "check"))
    while int(victim.expect("ok", "check")) <= then:
        pass
    victim.expect("parked", "park")
    assert put_back(chain, victim.pid).pages > 0
    assert int(victim.expect("ok", "check")) == then
    with chain.reader() as reader:
        assert reader.memory is not None
        assert reader.memory.asked[0] == "heap"
        assert (reader.memory.pid, reader.memory.comm) == (victim.pid, Path(own).name[:15])


def test_into_another_process_with_the_same_mappings(start: Start, chain: Chain) -> None:
    one, other = Hands(start("hands")), Hands(start("hands"))
    at = 0x10_0000_0000
    for hands in (one, other):
        hands.map(8, at=at)
    one.fill(at, 6)
    other.fill(at, 8, seed=9)
    take(chain, one.pid, span(at, 8))
    put_back(chain, other.pid)
    assert content(other, at, 8) == content(one, at, 8)


def test_shared_memory(hands: Hands, chain: Chain) -> None:
    at = hands.map(N, flags=SHARED)
    hands.fill(at, 4)
    before = content(hands, at, 8)
    take(chain, hands.pid, span(at, N))
    hands.put(at, 77)
    hands.put(at + 6 * PAGE, 77)
    hands.advise(at + 6 * PAGE, 1, MADV_DONTNEED)  # the object keeps it, the page table does not
    assert put_back(chain, hands.pid).pages == 2
    assert content(hands, at, 8) == before


def test_private_file_mapping_is_the_file_s_again(hands: Hands, chain: Chain, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(6 * PAGE + 100))
    room = hands.map(1)
    fd = hands.open(path, room)
    at = hands.map(7, flags=mmap.MAP_PRIVATE, fd=fd)
    hands.put(at + PAGE, 3)
    before = content(hands, at, 7)
    take(chain, hands.pid, str(path))
    for page in (1, 2, 6):
        hands.put(at + page * PAGE + 50, 42)
    assert put_back(chain, hands.pid).pages == 3
    assert content(hands, at, 7) == before
    hands.put(at, 1)
    path.write_bytes(os.urandom(7 * PAGE))
    with pytest.raises(CannotRestore, match="another file"):
        put_back(chain, hands.pid)


def test_a_tracker_sees_what_was_written_into_its_target(hands: Hands, chain: Chain) -> None:
    at = hands.map(N)
    hands.fill(at, N)
    with Target.open(hands.pid) as target, Checkpointer.open(target, chain, ranges=(span(at, N),)) as engine:
        engine.checkpoint()
        for page in (2, 30, 599):
            hands.put(at + page * PAGE, 1)
        assert engine.checkpoint().pages_stored == 3
        with chain.reader(1) as reader:
            assert restore_into(reader, hands.pid).pages == 3
        assert engine.checkpoint().pages_stored == 3
        assert engine.checkpoint().pages_stored == 0
    with chain.reader(1) as first, chain.reader(3) as third:
        assert np.array_equal(first.read(first.data), third.read(third.data))


def test_some_ranges_of_a_whole_process(hands: Hands, chain: Chain) -> None:
    at, other = hands.map(8), hands.map(8)
    start = hands.brk()
    hands.brk(start + 4 * PAGE)
    for address in (at, other, start):
        hands.fill(address, 4)
    before = content(hands, at, 8), content(hands, start, 4)
    take(chain, hands.pid)
    for address in (at, other, start):
        hands.fill(address, 4, seed=5)
    changed = content(hands, other, 8)
    with pytest.raises(UsageError, match="whole process"):
        put_back(chain, hands.pid)
    put_back(chain, hands.pid, (span(at, 8), "heap"))
    assert (content(hands, at, 8), content(hands, start, 4)) == before
    assert content(hands, other, 8) == changed
    with pytest.raises(UsageError, match="no memory at 1000-2000"):
        put_back(chain, hands.pid, ((0x1000, 0x2000),))


def test_a_part_of_the_ranges(hands: Hands, chain: Chain) -> None:
    at = hands.map(8)
    hands.fill(at, 8)
    take(chain, hands.pid, span(at, 8))
    hands.fill(at, 8, seed=2)
    assert put_back(chain, hands.pid, (span(at + PAGE, 2),)).pages == 2


@pytest.fixture(params=["gone", "smaller", "read-only", "no access", "shared", "file"])
def misfit(request: pytest.FixtureRequest, hands: Hands, chain: Chain, tmp_path: Path) -> Iterator[tuple[int, str]]:
    """A mapping that has changed since its checkpoint, and what is said of it."""
    at = hands.map(8)
    hands.fill(at, 8)
    take(chain, hands.pid, span(at, 8))
    hands.fill(at, 8, seed=2)
    match request.param:
        case "gone":
            hands.unmap(at, 8)
            yield at, "is not mapped"
        case "smaller":
            hands.unmap(at + 5 * PAGE, 3)
            yield at, f"is smaller: it ends at {at + 5 * PAGE:x}"
        case "read-only":
            hands.protect(at + 4 * PAGE, 2, R)
            yield at, "is not writable"
        case "no access":
            hands.protect(at, 8, NONE)
            yield at, "is not writable"
        case "shared":
            hands.map(8, at=at, flags=SHARED)
            yield at, "is not private memory now"
        case _:
            path = tmp_path / "file"
            path.write_bytes(bytes(8 * PAGE))
            hands.map(8, at=at, flags=mmap.MAP_PRIVATE, fd=hands.open(path, hands.map(1)))
            yield at, f"is not private memory now, but {path}"


def test_a_mapping_that_does_not_fit_is_named(hands: Hands, chain: Chain, misfit: tuple[int, str]) -> None:
    at, words = misfit
    there = [vma for vma in read_maps(hands.pid) if vma.start >= at and vma.end <= at + 8 * PAGE]
    before = [content(hands, vma.start, vma.length // PAGE) for vma in there]
    with pytest.raises(CannotRestore, match=f"{at:x}-{at + 8 * PAGE:x} {words}"):
        put_back(chain, hands.pid)
    assert [content(hands, vma.start, vma.length // PAGE) for vma in there] == before


def test_every_misfit_is_named_at_once(hands: Hands, chain: Chain) -> None:
    at = hands.map(12)
    one, other = at, at + 8 * PAGE
    hands.fill(at, 12)
    hands.protect(at + 4 * PAGE, 4, R)  # not one mapping
    take(chain, hands.pid, span(one, 4), span(other, 4))
    hands.unmap(one, 4)
    hands.unmap(other, 4)
    with pytest.raises(CannotRestore) as caught:
        put_back(chain, hands.pid)
    assert [reason.split(" ", 1)[1] for reason in caught.value.reasons] == ["is not mapped"] * 2


def test_a_read_only_mapping_that_did_not_change_is_no_obstacle(hands: Hands, chain: Chain) -> None:
    at = hands.map(8)
    hands.fill(at, 8)
    hands.protect(at, 4, R)
    take(chain, hands.pid, span(at, 8))
    hands.put(at + 6 * PAGE, 5)
    assert put_back(chain, hands.pid).pages == 1
    hands.protect(at, 8, RW)
    hands.put(at, 5)
    hands.protect(at, 4, R)
    hands.put(at + 6 * PAGE, 6)
    with pytest.raises(CannotRestore, match="differs, and is not writable"):
        put_back(chain, hands.pid)
    assert hands.get(at + 6 * PAGE) == 6


def test_guard_pages_must_be_where_they_were(hands: Hands, chain: Chain) -> None:
    at = hands.map(8)
    hands.fill(at, 8)
    try:
        hands.advise(at, 1, MADV_GUARD_INSTALL)
    except OSError as error:
        pytest.skip(f"this kernel has no guard pages: {error.strerror}")
    take(chain, hands.pid, span(at, 8))
    hands.put(at + PAGE, 9)
    hands.advise(at, 1, MADV_GUARD_REMOVE)
    with pytest.raises(CannotRestore, match="was a guard page"):
        put_back(chain, hands.pid)
    hands.advise(at, 2, MADV_GUARD_INSTALL)
    with pytest.raises(CannotRestore, match="is a guard page"):
        put_back(chain, hands.pid)


def test_what_the_kernel_refuses_half_way_is_undone(
    hands: Hands, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = hands.map(N)
    hands.fill(at, N)
    take(chain, hands.pid, span(at, N))
    hands.fill(at, N, seed=2)
    before = content(hands, at, N)
    real, calls = process_vm.writev, list[int]()

    def fails_at_the_second(pid: int, local: process_vm.Buffer, starts: object, lengths: object) -> int:
        calls.append(1)
        return 0 if len(calls) == 2 else real(pid, local, starts, lengths)  # type: ignore[arg-type]

    monkeypatch.setattr(process_vm, "writev", fails_at_the_second)
    with pytest.raises(CannotRestore, match="its memory is as it was"):
        put_back(chain, hands.pid)
    assert len(calls) == 4
    assert content(hands, at, N) == before


def test_a_traced_process_is_refused(hands: Hands, chain: Chain) -> None:
    at = hands.map(4)
    hands.fill(at, 4)
    take(chain, hands.pid, span(at, 4))
    hands.put(at, 9)
    traced, done = threading.Event(), threading.Event()

    def trace() -> None:
        with freeze(hands.pid):
            traced.set()
            done.wait()

    tracer = threading.Thread(target=trace)
    tracer.start()
    traced.wait()
    try:
        with pytest.raises(Busy, match="is traced by"):
            put_back(chain, hands.pid)
    finally:
        done.set()
        tracer.join()
    assert hands.get(at) == 9
    assert put_back(chain, hands.pid).pages == 1


def test_who_cannot_be_written_into(hands: Hands, chain: Chain, start: Start) -> None:
    at = hands.map(4)
    hands.fill(at, 4)
    take(chain, hands.pid, span(at, 4))
    with pytest.raises(NoSuchProcess, match="no process has the pid 4194303"):
        put_back(chain, 4194303)
    with pytest.raises(UsageError, match="icecore itself"):
        put_back(chain, os.getpid())
    dead = start("hands")
    dead.signal(signal.SIGKILL)
    os.waitid(os.P_PIDFD, dead.pidfd, os.WEXITED | os.WNOWAIT)
    with pytest.raises(NoSuchProcess, match="zombie"):
        put_back(chain, dead.pid)


def test_another_user_s_process_is_not_ours_to_write(hands: Hands, chain: Chain) -> None:
    at = hands.map(4)
    take(chain, hands.pid, span(at, 4))
    store = chain.directory.parent.parent
    code = (
        "import os, sys; from pathlib import Path; from icecore.storage.store import Store;"
        "from icecore.restore.into import restore_into;"
        "reader = Store.open(Path(sys.argv[1])).chain('ranges').reader(); os.setgid(65534); os.setuid(65534);"
        "\ntry: restore_into(reader, int(sys.argv[2]))\nexcept Exception as error: print(type(error).__name__)"
    )
    words = [sys.executable, "-c", code, str(store), str(hands.pid)]
    done = subprocess.run(words, text=True, stdout=subprocess.PIPE, check=True)
    assert done.stdout.strip() == NotPermitted.__name__
