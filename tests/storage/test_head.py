# SPDX-License-Identifier: Apache-2.0
"""The head is a cache: whatever a crash or a bad disk does to it, readers and writers get the right bytes."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.pages import Memory, numbers, page, poke, read, take

from icecore.storage import head
from icecore.storage.chain import Chain
from icecore.storage.records import PAGE_SIZE

PAGES = 300
HISTORY: list[Memory] = [{number: page(number) for number in range(PAGES)}]
HISTORY.append({number: poke(content, 1) if number % 2 else content for number, content in HISTORY[0].items()})
HISTORY.append({number: page(number + 1000) if number % 5 == 0 else HISTORY[1][number] for number in range(20, PAGES)})
HISTORY[2] |= {number: page(number) for number in range(1000, 1050)}

Damage = Callable[[Path, Path], None]


def no_index(chain: Path, older: Path) -> None:
    (chain / head.INDEX).unlink()


def no_pages(chain: Path, older: Path) -> None:
    (chain / head.PAGES).unlink()


def empty_pages(chain: Path, older: Path) -> None:
    os.truncate(chain / head.PAGES, 0)


def short_index(chain: Path, older: Path) -> None:
    os.truncate(chain / head.INDEX, 100)


def flipped_index(chain: Path, older: Path) -> None:
    content = bytearray((chain / head.INDEX).read_bytes())
    content[len(content) // 2] ^= 4
    (chain / head.INDEX).write_bytes(content)


def stale(chain: Path, older: Path) -> None:
    """The crash came before anything was applied."""
    for name in (head.INDEX, head.PAGES):
        shutil.copy(older / name, chain / name)


def stale_index(chain: Path, older: Path) -> None:
    """The crash came when all pages were applied, but not the index."""
    shutil.copy(older / head.INDEX, chain / head.INDEX)


def half_applied(chain: Path, older: Path) -> None:
    """Some pages are new, others old, under the old index."""
    mix(chain, older, whole_pages=True)
    stale_index(chain, older)


def torn(chain: Path, older: Path) -> None:
    """Pages half old, half new, under the old index."""
    mix(chain, older, whole_pages=False)
    stale_index(chain, older)


def lost_writes(chain: Path, older: Path) -> None:
    """A power cut kept the new index and some of the old pages."""
    mix(chain, older, whole_pages=True)


def noise(chain: Path, older: Path) -> None:
    size = (chain / head.PAGES).stat().st_size
    with (chain / head.PAGES).open("r+b") as file:
        for offset in random.Random(4).sample(range(0, size, PAGE_SIZE), 20):
            os.pwrite(file.fileno(), b"noise", offset + 77)


def mix(chain: Path, older: Path, *, whole_pages: bool) -> None:
    new, old = bytearray((chain / head.PAGES).read_bytes()), (older / head.PAGES).read_bytes()
    dice = random.Random(5)
    for offset in range(0, len(old), PAGE_SIZE):
        cut = dice.choice([0, PAGE_SIZE]) if whole_pages else dice.choice([0, 8, 2048, PAGE_SIZE])
        new[offset : offset + cut] = old[offset : offset + cut]
    (chain / head.PAGES).write_bytes(new)


DAMAGES = [
    no_index, no_pages, empty_pages, short_index, flipped_index, stale, stale_index, half_applied, torn, lost_writes,
    noise,
]  # fmt: skip


@pytest.fixture
def damaged(chain: Chain, tmp_path: Path, request: pytest.FixtureRequest) -> Chain:
    """A chain of three layers with the head of the third, damaged in one of the ways."""
    for number, memory in enumerate(HISTORY):
        if number == len(HISTORY) - 1:
            shutil.copytree(chain.directory, tmp_path / "older")
        take(chain, memory)
    damage: Damage = request.param
    damage(chain.directory, tmp_path / "older")
    return Chain(chain.directory, chain.name)


@pytest.mark.parametrize("damaged", DAMAGES, indirect=True)
def test_readers_get_the_right_bytes(damaged: Chain) -> None:
    for layer_id, memory in enumerate(HISTORY, start=1):
        assert read(damaged, layer_id) == memory


@pytest.mark.parametrize("damaged", DAMAGES, indirect=True)
def test_writers_go_on(damaged: Chain) -> None:
    after = {number: poke(content, 3) for number, content in HISTORY[-1].items() if number % 3}
    info = take(damaged, after)
    assert info.kind == "delta"
    for layer_id, memory in enumerate([*HISTORY, after], start=1):
        assert read(damaged, layer_id) == memory
    (damaged.directory / head.INDEX).unlink(missing_ok=True)
    assert read(damaged) == after


@pytest.mark.parametrize("damaged", [noise], indirect=True)
def test_a_damaged_head_is_made_anew_after_a_reader_found_it(damaged: Chain) -> None:
    assert read(damaged) == HISTORY[-1]
    assert not (damaged.directory / head.INDEX).exists()
    damaged.writer().abort()
    image = head.load(damaged.directory, writable=False)
    assert image is not None
    _rows, found, broken = image.base(numbers(HISTORY[-1]))
    image.close()
    assert found.all()
    assert not broken.any()


def test_slots_of_discarded_pages_are_reused(chain: Chain) -> None:
    take(chain, {number: page(number) for number in range(100)})
    size = (chain.directory / head.PAGES).stat().st_size
    for start in range(200, 2000, 100):
        memory = {number: page(number) for number in range(start, start + 100)}
        take(chain, memory)
        assert read(chain) == memory
    assert (chain.directory / head.PAGES).stat().st_size == size


def test_a_head_that_cannot_be_updated_does_not_lose_the_checkpoint(chain: Chain) -> None:
    take(chain, HISTORY[0])
    (chain.directory / ".head.index.tmp").mkdir()
    info = take(chain, HISTORY[1])
    assert info.id == 2
    assert read(chain) == HISTORY[1]
    (chain.directory / ".head.index.tmp").rmdir()
    take(chain, HISTORY[2])
    assert [read(chain, number) for number in (1, 2, 3)] == HISTORY
