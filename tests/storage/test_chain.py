# SPDX-License-Identifier: Apache-2.0
"""What goes into a chain comes out of it, from every link."""

import random
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.pages import ZERO_PAGE, Memory, add, content, page, poke, read, rows, take, to_runs

from icecore.errors import NoSuchCheckpoint
from icecore.storage import runs
from icecore.storage.chain import Chain
from icecore.storage.layer import LayerStats
from icecore.storage.store import Store


def test_keyframe_round_trip(chain: Chain) -> None:
    memory = {number: page(number) for number in [*range(16, 700), 5000, 2**51]}
    info = take(chain, memory)
    assert (info.id, info.kind, info.parent, info.pages_stored, info.pages_populated) == (1, "keyframe", "", 686, 686)
    assert info.bytes_written == (chain.directory / "00000001.layer").stat().st_size
    assert read(chain) == memory


def test_empty_checkpoint(chain: Chain) -> None:
    take(chain, {})
    take(chain, {})
    assert read(chain) == read(chain, 1) == {}


def test_every_link_of_a_chain(chain: Chain) -> None:
    """Pages change a little, change wholly, appear, vanish, become zero; every link stays what it was."""
    dice = random.Random(1)
    memory = {number: page(number) for number in range(600)}
    history: list[Memory] = []
    for round_number in range(8):
        dirty = set(dice.sample(sorted(memory), 60))
        for number in dirty:
            change = dice.choice([poke(memory[number], round_number), page(number * 100 + round_number), ZERO_PAGE])
            memory[number] = change
        for number in dice.sample(sorted(memory), 20):
            del memory[number]
        new = {dice.randrange(2000) for _ in range(20)}
        memory |= {number: page(-number % 997) for number in new}
        take(chain, memory, (dirty | new) & memory.keys() if history else None)
        history.append(dict(memory))
    for layer_id, expected in enumerate(history, start=1):
        assert read(chain, layer_id) == expected
    kinds = [info.kind for info in chain.layers()]
    assert kinds == ["keyframe"] + ["delta"] * 7


def test_layers_name_their_parents(chain: Chain) -> None:
    for _ in range(3):
        take(chain, {1: page(1)}, keyframe=True)
    infos = chain.layers()
    assert [info.parent for info in infos] == ["", infos[0].digest, infos[1].digest]
    assert len({info.digest for info in infos}) == 3


def test_small_changes_are_small(chain: Chain) -> None:
    memory = {number: page(number) for number in range(256)}
    take(chain, memory)
    changed = {number: poke(content, number) for number, content in memory.items()}
    info = take(chain, changed)
    assert info.pages_stored == 256
    assert info.bytes_written < 40 * 256
    assert read(chain) == changed
    assert read(chain, 1) == memory


def test_unchanged_pages_are_dropped(chain: Chain) -> None:
    memory = {number: page(number) for number in range(64)}
    take(chain, memory)
    with chain.writer() as writer:
        assert add(writer, memory, memory) == 0
        info = writer.commit(None, to_runs(memory))
    assert (info.pages_stored, info.pages_populated, info.bytes_raw) == (0, 64, 0)
    assert read(chain) == memory


def test_discarded_pages_do_not_resurrect(chain: Chain) -> None:
    memory = {number: page(number) for number in range(8)}
    take(chain, memory)
    rest = {number: memory[number] for number in (0, 7)}
    take(chain, rest, ())
    take(chain, rest, ())
    assert read(chain) == rest
    back = rest | {3: page(33)}
    take(chain, back, [3])
    assert read(chain) == back
    assert read(chain, 1) == memory


def test_a_later_add_supersedes(chain: Chain) -> None:
    old, new = {1: page(1), 2: page(2)}, {1: page(11), 2: page(2)}
    with chain.writer() as writer:
        add(writer, old, old)
        add(writer, new, [1])
        info = writer.commit(None, to_runs(new))
    assert info.pages_stored == 2
    assert read(chain) == new


def test_a_page_that_goes_back_is_the_parents(chain: Chain) -> None:
    memory = {1: page(1), 2: page(2)}
    take(chain, memory)
    with chain.writer() as writer:
        add(writer, {1: page(3)}, [1])
        add(writer, memory, [1])
        assert writer.commit(None, to_runs(memory)).pages_stored == 0
    assert read(chain) == memory


@pytest.mark.parametrize("last", [page(5), ZERO_PAGE, page(1)])
def test_the_last_of_many_states_counts(chain: Chain, last: bytes) -> None:
    take(chain, {1: page(1)})
    with chain.writer() as writer:
        for state in (page(2), ZERO_PAGE, page(1), page(4), last):
            add(writer, {1: state}, [1])
        writer.commit(None, to_runs([1]))
    assert read(chain) == {1: last}


def test_zero_and_guard_pages(chain: Chain) -> None:
    memory = {1: page(1), 2: ZERO_PAGE, 9: page(9)}
    take(chain, memory, zero=[3, 4], guard=[5])
    with chain.reader() as reader:
        assert reader.data.tolist() == [[1, 2], [9, 10]]
        assert reader.zero.tolist() == [[2, 5]]
        assert reader.guard.tolist() == [[5, 6]]
        assert reader.info.pages_stored == 2
    memory = {1: ZERO_PAGE, 2: page(2), 5: page(5)}
    take(chain, memory, guard=[9])
    with chain.reader() as reader:
        assert content(reader) == memory
        assert reader.guard.tolist() == [[9, 10]]
    assert read(chain, 1) == {1: page(1), 2: ZERO_PAGE, 3: ZERO_PAGE, 4: ZERO_PAGE, 9: page(9)}


def test_a_zero_page_that_did_not_change_is_known(chain: Chain) -> None:
    memory = {1: ZERO_PAGE, 2: page(2)}
    take(chain, memory)
    with chain.writer() as writer:
        assert writer.known.tolist() == [[1, 3]]
        writer.commit(None, to_runs(memory))
    assert read(chain) == memory


def test_a_hole_is_refused(chain: Chain) -> None:
    take(chain, {1: page(1)})
    with chain.writer() as writer, pytest.raises(RuntimeError, match="page 0x2000 "):
        writer.commit(None, to_runs([1, 2]))
    assert [info.id for info in chain.layers()] == [1]
    take(chain, {1: page(1)}, ())


def test_classes_that_overlap_are_refused(chain: Chain) -> None:
    with chain.writer() as writer:
        add(writer, {1: page(1)}, [1])
        with pytest.raises(ValueError, match="overlap"):
            writer.commit(None, to_runs([1]), to_runs([1]))
    assert chain.newest() is None


def test_keyframe_in_the_middle_stands_alone(chain: Chain) -> None:
    memory = {number: page(number) for number in range(20)}
    take(chain, memory)
    with chain.writer(force_keyframe=True) as writer:
        assert not len(writer.known)
        assert add(writer, memory, memory) == 20
        assert writer.commit(None, to_runs(memory)).kind == "keyframe"
    (chain.directory / "00000001.layer").unlink()
    take(chain, memory | {3: page(99)}, [3])
    assert read(chain, 2) == memory
    assert read(chain, 3) == memory | {3: page(99)}


def test_abort_leaves_the_chain_as_it_was(chain: Chain) -> None:
    take(chain, {1: page(1)})
    before = sorted(path.name for path in chain.directory.iterdir())
    with suppress(KeyError), chain.writer() as writer:
        add(writer, {1: page(2)}, [1])
        raise KeyError
    assert sorted(path.name for path in chain.directory.iterdir()) == before
    assert read(chain) == {1: page(1)}


def test_the_buffer_may_be_reused_after_add(chain: Chain) -> None:
    buffer = np.frombuffer(page(1) * 300, dtype=np.uint8).reshape(-1, 4096).copy()
    with chain.writer() as writer:
        writer.add(np.arange(300, dtype=np.uint64), buffer)
        buffer[:] = 7
        writer.commit(None, to_runs(range(300)))
    assert read(chain) == {number: page(1) for number in range(300)}


def test_read_gives_the_rows_asked_for(chain: Chain) -> None:
    memory = {number: page(number) for number in range(10, 20)}
    take(chain, memory | {12: ZERO_PAGE})
    with chain.reader() as reader:
        found = reader.read(to_runs([11, 12, 19]))
        assert np.array_equal(found, rows(memory | {12: ZERO_PAGE}, [11, 12, 19]))
        with pytest.raises(ValueError, match="does not have"):
            reader.read(to_runs([11, 25]))


@pytest.mark.parametrize("pages_per_block", [1, 7, 4096])
def test_blocks_of_any_size(chain: Chain, pages_per_block: int) -> None:
    memory = {number: page(number) for number in range(0, 60, 2)}
    take(chain, memory)
    with chain.reader() as reader:
        blocks = list(reader.blocks(pages_per_block))
    assert np.concatenate([pages for pages, _ in blocks]).tolist() == sorted(memory)
    assert np.array_equal(np.concatenate([data for _, data in blocks]), rows(memory, memory))


def test_info(chain: Chain) -> None:
    stats = LayerStats(tracker="content", tracker_reason="no userfaultfd", rounds=3, pause_us=1200, pages_dirty=9)
    with chain.writer() as writer:
        writer.commit(None, runs.EMPTY, stats=stats)
    fresh = Chain(chain.directory, "job").info(1)
    assert fresh == chain.newest()
    assert (fresh.tracker, fresh.tracker_reason, fresh.rounds, fresh.pause_us) == (
        "content",
        "no userfaultfd",
        3,
        1200,
    )
    assert (fresh.pages_dirty, fresh.ranges, fresh.pid, fresh.comm) == (9, False, 0, "")


def test_what_is_not_there(chain: Chain) -> None:
    with pytest.raises(NoSuchCheckpoint):
        chain.reader()
    take(chain, {1: page(1)})
    for layer_id in (0, 2, -1):
        with pytest.raises(NoSuchCheckpoint):
            chain.reader(layer_id)
        with pytest.raises(NoSuchCheckpoint):
            chain.info(layer_id)


def test_a_reader_outlives_the_next_writers(chain: Chain) -> None:
    memory = {number: page(number) for number in range(600)}
    take(chain, memory)
    with chain.reader() as reader:
        blocks = reader.blocks(64)
        next(blocks)
        take(chain, {number: poke(data, 5) for number, data in memory.items()})
        take(chain, {number: page(number + 9000) for number in memory}, keyframe=True)
        for pages, data in blocks:
            assert np.array_equal(data, rows(memory, pages.tolist()))


states = st.dictionaries(st.integers(0, 12), st.integers(0, 5), max_size=12)


@settings(max_examples=40)
@given(st.lists(st.tuples(states, st.booleans()), min_size=1, max_size=6), st.data())
def test_any_history(store: Store, history: list[tuple[dict[int, int], bool]], data: st.DataObject) -> None:
    """Whatever is populated and however often each page is added, each link reads back as it was taken."""
    chain = store.create_chain(f"c{len(store.names())}")
    moments: list[Memory] = []
    for state, keyframe in history:
        memory = {number: page(seed) if seed else ZERO_PAGE for number, seed in state.items()}
        with chain.writer(force_keyframe=keyframe) as writer:
            early = data.draw(st.sets(st.sampled_from(sorted(memory)))) if memory else set[int]()
            add(writer, {number: page(50 + number) for number in early}, early)
            add(writer, memory, memory)
            writer.commit(None, to_runs(memory))
        moments.append(memory)
    for layer_id, memory in enumerate(moments, start=1):
        assert read(chain, layer_id) == memory
