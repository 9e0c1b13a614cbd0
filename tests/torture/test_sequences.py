# SPDX-License-Identifier: Apache-2.0
"""Sequences that were wrong once, played again: ``sequences/*.txt``, one operation or checkpoint a line, # for remarks.

ICECORE_TORTURE_SEQUENCE: one more file, to replay what the torture has printed.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.torture_round import Totals
from support.torture_session import play
from support.torture_system import ksm_and_huge_pages
from support.trackers import working_trackers

FILES = sorted((Path(__file__).parent / "sequences").glob("*.txt"))
MORE = os.environ.get("ICECORE_TORTURE_SEQUENCE")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="looking at shared memory needs root")


@pytest.fixture(scope="module", autouse=True)
def whole_machine() -> Iterator[None]:
    with ksm_and_huge_pages():
        yield


@pytest.mark.parametrize("tracker", working_trackers())
@pytest.mark.parametrize("file", [*FILES, *([Path(MORE)] if MORE else [])], ids=lambda file: file.stem)
def test_a_sequence(file: Path, tracker: str, tmp_path: Path) -> None:
    lines = [line for line in file.read_text(encoding="ascii").splitlines() if line and not line.startswith("#")]
    totals = Totals()
    play(lines, tracker, tmp_path, totals)
    assert totals.checkpoints
