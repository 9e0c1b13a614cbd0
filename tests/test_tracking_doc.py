# SPDX-License-Identifier: Apache-2.0
"""docs/tracking.md: its table is of the events that the tests drive, and says what the trackers are seen to do."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.summary import Happened, Record, record, running_kernel
from support.torture_events import EVENTS, Event, measure
from support.torture_operations import KINDS
from support.torture_system import ksm_and_huge_pages
from support.trackers import working_trackers

from icecore.daemon.tracker import NAMES

PAGE = Path(__file__).resolve().parent.parent / "docs" / "tracking.md"
ROW = re.compile(r"\| <!-- event: ([a-z-]+) -->")
WORDS = ("exact", "noise", "compared", "keyframe", "missed")
NO_EXACT = " --no-exact"
COLUMNS = ("write-protect", "soft-dirty", "soft-dirty" + NO_EXACT, "content")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="looking at shared memory needs root")


def table() -> dict[str, tuple[str, ...]]:
    """Event: the words for each of COLUMNS; several where kernels differ."""
    rows: dict[str, tuple[str, ...]] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if match := ROW.match(line):
            assert match[1] not in rows
            rows[match[1]] = tuple(cell.strip() for cell in line.split("|")[2:-2])
    return rows


@pytest.fixture(scope="module", autouse=True)
def whole_machine() -> Iterator[None]:
    with ksm_and_huge_pages():
        yield


def test_the_table_is_of_the_events_that_are_tested() -> None:
    assert list(table()) == [event.name for event in EVENTS]


def test_every_operation_of_the_torture_is_in_an_event() -> None:
    named = {kind for event in EVENTS for kind in event.kinds.split()}
    assert named == {kind.name for kind in KINDS}


def test_every_tracker_has_a_column() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert "| event | " + " | ".join(COLUMNS) + " | " in text
    assert {column.removesuffix(NO_EXACT) for column in COLUMNS} == set(NAMES) - {"auto"}
    for name, cells in table().items():
        assert len(cells) == len(COLUMNS), name
        assert all(word in WORDS for cell in cells for word in cell.split(" or ")), name


@pytest.mark.parametrize("column", [c for c in COLUMNS if c.removesuffix(NO_EXACT) in working_trackers()])
@pytest.mark.parametrize("event", EVENTS, ids=[event.name for event in EVENTS])
def test_the_table_says_what_happens(event: Event, column: str, record_property: Record) -> None:
    outcome = measure(event, column.removesuffix(NO_EXACT), exact=not column.endswith(NO_EXACT))
    word = "refused" if outcome.refused else outcome.word
    record(record_property, Happened(running_kernel(), event.name, column, word))
    if outcome.refused:
        pytest.skip("the kernel, or what it can do while tracking, refuses a part of this")
    assert word in table()[event.name][COLUMNS.index(column)].split(" or ")
