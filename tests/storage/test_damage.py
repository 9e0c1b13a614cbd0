# SPDX-License-Identifier: Apache-2.0
"""Layers that are cut off, altered, swapped or too new: found, named, and left alone."""

import random
import struct
from pathlib import Path

import pytest
from support.pages import Memory, page, poke, read, take
from support.sealed import reseal

from icecore.errors import StoreCorrupt, StoreUnusable
from icecore.storage import layer
from icecore.storage.chain import Chain
from icecore.storage.store import Store

MEMORY: Memory = {number: page(number) for number in range(40)}


@pytest.fixture
def path(chain: Chain) -> Path:
    """The first of two layers; there is no head, so everything comes from the layers."""
    take(chain, MEMORY)
    take(chain, {number: poke(content, number) for number, content in MEMORY.items()})
    (chain.directory / "head.index").unlink()
    return chain.directory / "00000001.layer"


def fresh(chain: Chain) -> Chain:
    """The same chain without what was remembered of it."""
    return Chain(chain.directory, chain.name)


def flip(path: Path, offset: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1 << bit
    path.chmod(0o600)
    path.write_bytes(content)


def test_every_flipped_byte_is_found(chain: Chain, path: Path) -> None:
    size = path.stat().st_size
    ends = {*range(64), *range(size - 300, size)}
    for offset in sorted(ends | set(random.Random(2).sample(range(size), 150))):
        flip(path, offset, offset % 8)
        for layer_id in (1, 2):
            with pytest.raises((StoreCorrupt, StoreUnusable), match="chain job, layer 00000001") as caught:
                read(fresh(chain), layer_id)
            assert ", offset 0x" in caught.value.message or "version" in caught.value.message
        flip(path, offset, offset % 8)
    assert read(fresh(chain), 1) == MEMORY


def test_every_truncation_is_found(chain: Chain, path: Path) -> None:
    whole = path.read_bytes()
    for length in [*range(80), *range(len(whole) - 80, len(whole)), *range(80, len(whole) - 80, 5001)]:
        path.write_bytes(whole[:length])
        with pytest.raises(StoreCorrupt, match="layer 00000001, offset 0x"):
            read(fresh(chain), 1)


def test_trailing_garbage_is_found(chain: Chain, path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(StoreCorrupt, match="something follows"):
        read(fresh(chain), 1)


def test_a_damaged_block_is_named(chain: Chain, path: Path) -> None:
    flip(path, 5000)
    with pytest.raises(StoreCorrupt, match="chain job, layer 00000001, offset 0x10: block 0 is damaged") as caught:
        read(chain, 1)
    assert "checkpoint the process again" in caught.value.remedy
    flip(path, 5000)
    flip(path.with_name("00000002.layer"), 20)
    with pytest.raises(StoreCorrupt, match="layer 00000002, offset 0x10: block 0 is damaged") as caught:
        read(chain, 2)
    assert "icecore restore job@1" in caught.value.remedy


def test_a_damaged_layer_does_not_stop_what_does_not_need_it(chain: Chain, path: Path) -> None:
    flip(path.with_name("00000002.layer"), 20)
    assert read(fresh(chain), 1) == MEMORY
    with pytest.raises(StoreCorrupt):
        fresh(chain).writer()
    flip(path.with_name("00000002.layer"), -3)
    with pytest.raises(StoreCorrupt):
        fresh(chain).writer()
    info = take(fresh(chain), MEMORY, keyframe=True)
    assert (info.id, info.parent) == (3, "")
    assert read(fresh(chain)) == MEMORY


def test_layers_of_another_chain_are_refused(store: Store, chain: Chain, path: Path) -> None:
    other = store.create_chain("other")
    take(other, {1: page(7)})
    path.write_bytes((other.directory / "00000001.layer").read_bytes())
    with pytest.raises(StoreCorrupt, match=r"layer 00000002, .*its parent"):
        read(fresh(chain), 2)


def test_a_missing_layer_is_found(chain: Chain, path: Path) -> None:
    path.unlink()
    with pytest.raises(StoreCorrupt, match=r"layer 00000002, .*its parent"):
        read(fresh(chain), 2)


def test_a_newer_version_is_left_alone(chain: Chain, path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:8] + struct.pack("<I", layer.VERSION + 1) + content[12:])
    before = path.read_bytes()
    with pytest.raises(StoreUnusable, match=f"has format version {layer.VERSION + 1}"):
        read(fresh(chain), 1)
    with pytest.raises(StoreUnusable, match="has format version"):
        take(fresh(chain), MEMORY)
    assert path.read_bytes() == before


def test_an_unknown_required_feature_is_named(chain: Chain, path: Path) -> None:
    reseal(path, required=["sealed", "zoned"])
    with pytest.raises(StoreUnusable, match="features that this icecore lacks: sealed, zoned"):
        read(fresh(chain), 1)


def test_an_unknown_optional_feature_and_field_do_not_matter(chain: Chain, path: Path) -> None:
    reseal(path, optional=["hints"], colour=7)
    assert read(fresh(chain), 1) == MEMORY


def test_a_file_that_is_no_layer(chain: Chain, path: Path) -> None:
    path.write_bytes(b"#!/bin/sh\n" * 20)
    with pytest.raises(StoreCorrupt, match="offset 0x0: this is not a layer"):
        read(fresh(chain), 1)


def test_a_layer_that_is_a_symlink_is_not_followed(chain: Chain, path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    with pytest.raises(StoreUnusable):
        read(fresh(chain), 1)
