# SPDX-License-Identifier: Apache-2.0
"""Ranges on the command line: kept, shown, and written into a running process."""

import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
from support.command import icecore
from support.hands import Hands
from support.icecored import Icecored
from support.memory import PAGE
from support.victim import Start

PROGRAM = Path(sys.executable).with_name("icecore")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def hands(start: Start) -> Hands:
    return Hands(start("hands"))


def grown(hands: Hands) -> int:
    """A heap of eight pages; where it begins."""
    start = hands.brk()
    hands.brk(start + 8 * PAGE)
    hands.fill(start, 8)
    return start


def test_taken_shown_and_written_back(hands: Hands, store: Path) -> None:
    heap, pid = grown(hands), str(hands.pid)
    first = hands.get(heap + 3)
    taken = icecore("checkpoint", pid, "--range", "heap", store=store)
    assert taken.status == 0
    name = f"{Path(f'/proc/{pid}/comm').read_text().strip()}-{pid}-heap"
    assert taken.document["name"] == name
    shown = icecore("show", name, store=store).document
    assert (shown["ranges"], shown["pid"]) == (True, hands.pid)
    assert (shown["tracker"], bool(shown["tracker_reason"])) == ("write-protect", True)
    hands.put(heap + 3, first ^ 1)
    written = icecore("restore", f"{name}@1", "--into", pid, "--ranges", store=store)
    assert (written.status, written.document.pop("pause_us") != 0) == (0, True)
    assert written.document == {"name": name, "id": 1, "pid": hands.pid, "pages": 1}
    assert hands.get(heap + 3) == first


def test_what_makes_no_sense(hands: Hands, store: Path) -> None:
    grown(hands)
    pid = str(hands.pid)
    assert icecore("checkpoint", pid, "--name", "whole", store=store).status == 0
    for arguments, words in {
        ("checkpoint", pid, "--name", "whole", "--range", "heap"): "keeps whole processes",
        ("checkpoint", pid, "--range", "/no/such/mapping"): "has no memory of its own at /no/such/mapping",
        ("checkpoint", pid, "--range", "1000-1001"): "not whole pages",
        ("restore", "whole", "--ranges"): "no process was named",
        ("restore", "whole", "--range", "heap"): "no process was named",
        ("restore", "whole", "--into", pid): "cannot be restored into another",
        ("restore", "whole", "--into", pid, "--ranges"): "is of a whole process",
        ("restore", "whole", "--into", pid, "--ranges", "--detach"): "--detach has no meaning",
    }.items():
        outcome = icecore(*arguments, store=store)
        assert outcome.status == 2, arguments
        assert words in str(outcome.document["error"]), arguments
    assert icecore("restore", "whole", "--into", pid, "--ranges", "--range", "heap", store=store).status == 0


def test_a_checkpoint_of_ranges_is_no_process(hands: Hands, store: Path) -> None:
    grown(hands)
    assert icecore("checkpoint", str(hands.pid), "--name", "part", "--range", "heap", store=store).status == 0
    hands.victim.kill()
    outcome = icecore("restore", "part", store=store)
    assert outcome.status == 5
    assert "--into PID --ranges" in str(outcome.document["error"])


def test_tracked_under_two_names(hands: Hands, tmp_path: Path) -> None:
    heap = grown(hands)
    with Icecored(tmp_path, real=True) as daemon:

        def ask(*words: str) -> dict[str, object]:
            return icecore(*words, "--socket", str(daemon.socket), store=daemon.store).document

        pid = str(hands.pid)
        ask("track", pid, "--name", "one", "--interval", "100ms", "--range", "heap", "--tracker", "write-protect")
        ask("track", pid, "--name", "two", "--range", f"{heap:x}-{heap + 2 * PAGE:x}", "--range", "stack", "--no-exact")
        daemon.wait_for("one@2")
        targets = cast("list[dict[str, object]]", ask("status")["targets"])
        assert [target["ranges"] for target in targets] == [
            [{"name": "heap"}],
            [{"start": heap, "end": heap + 2 * PAGE}, {"name": "stack"}],
        ]
        assert [target["exact"] for target in targets] == [True, False]
        assert (targets[0]["tracker"], targets[0]["tracker_reason"]) == ("write-protect", "asked for")
        words: list[str | Path] = [PROGRAM, "--store", daemon.store, "--socket", daemon.socket, "status"]
        text = subprocess.run(words, text=True, stdout=subprocess.PIPE, check=True).stdout
        assert "one: memory of heap; asked for" in text
        assert f"two: memory of {heap:x}-{heap + 2 * PAGE:x}, stack" in text
