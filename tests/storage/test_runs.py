# SPDX-License-Identifier: Apache-2.0
"""Runs behave as the sets of pages that they stand for."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from icecore.storage import runs
from icecore.storage.runs import Runs

sets = st.sets(st.integers(0, 60), max_size=40)


def of(pages: set[int]) -> Runs:
    return runs.from_pages(np.array(sorted(pages), dtype=np.uint64))


def back(value: Runs) -> set[int]:
    return set(runs.expand(value).tolist())


def is_canonical(value: Runs) -> bool:
    borders = value.reshape(-1)
    return value.dtype == np.uint64 and bool(np.all(borders[1:] > borders[:-1]))


@given(sets, sets)
def test_set_operations(a: set[int], b: set[int]) -> None:
    for operation, expected in ((runs.union, a | b), (runs.intersect, a & b), (runs.subtract, a - b)):
        result = operation(of(a), of(b))
        assert back(result) == expected
        assert is_canonical(result)


@given(sets)
def test_pages_and_back(pages: set[int]) -> None:
    assert back(of(pages)) == pages
    assert runs.count(of(pages)) == len(pages)
    assert is_canonical(of(pages))


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=20))
def test_normalise_takes_anything(pairs: list[tuple[int, int]]) -> None:
    result = runs.normalise(pairs)
    assert back(result) == {page for start, end in pairs for page in range(start, end)}
    assert is_canonical(result)


@given(sets, st.lists(st.integers(0, 70)))
def test_contains(pages: set[int], asked: list[int]) -> None:
    assert runs.contains(of(pages), np.array(asked, dtype=np.uint64)).tolist() == [page in pages for page in asked]


@given(sets, st.integers(1, 9))
def test_split_blocks_loses_nothing(pages: set[int], size: int) -> None:
    blocks = list(runs.split_blocks(of(pages), size))
    assert [page for block in blocks for page in runs.expand(block).tolist()] == sorted(pages)
    assert all(runs.count(block) == size for block in blocks[:-1])
    assert all(0 < runs.count(block) <= size for block in blocks)


def test_high_addresses() -> None:
    top = np.array([[2**52 - 2, 2**52]], dtype=np.uint64)
    assert back(runs.union(top, of({1}))) == {1, 2**52 - 2, 2**52 - 1}
    assert back(runs.intersect(top, top)) == {2**52 - 2, 2**52 - 1}
