# SPDX-License-Identifier: Apache-2.0
"""Every kind of victim comes back from one moment, held in memory, and finds everything as it was."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from support.programs import c_program, go_program, python_program
from support.snapshot import Snapshot, take
from support.victim import Victim

from icecore.kernel.procfs import Vma, read_maps

CASES: list[tuple[str, Callable[[Path], Sequence[str | Path]], str]] = [
    ("counter", lambda _: [c_program("counter")], "check"),
    ("threads", lambda _: [c_program("threads")], "check"),
    ("files", lambda files: [c_program("files"), files], "step 5"),
    ("churn", lambda files: [c_program("churn"), "7", files / "f"], "step 2000"),
    ("interpreter", lambda files: [*python_program("interpreter"), files], "step 3"),
    ("gopher", lambda _: [go_program("gopher")], "check"),
]


def restored(snapshot: Snapshot) -> AbstractContextManager[Victim]:
    return Victim.restored_from(snapshot)


@pytest.mark.parametrize(("name", "argv", "step"), CASES, ids=[case[0] for case in CASES])
def test_a_victim_comes_back(
    name: str, argv: Callable[[Path], Sequence[str | Path]], step: str, tmp_path: Path
) -> None:
    """Killed at its checkpoint, restored twice: the second time after it has gone on for a while."""
    with Victim.start(argv(tmp_path)) as victim:
        before = victim.expect("ok", step)
        snapshot = take(victim.pid)
        victim.wait()
        for _ in range(2):
            with restored(snapshot) as again:
                after = again.expect("ok", "check")
                assert name not in ("files", "interpreter") or after.split()[0] == before.split()[0]
                again.expect("ok", "check" if name in ("files", "interpreter") else step)
                again.tell("quit")
                assert again.wait() == 7, again.last_words()


@pytest.mark.parametrize("name", ["threads", "files"])
def test_the_address_space_is_the_same(name: str, tmp_path: Path) -> None:
    """Not a mapping more or less, each with its protection, name and flags; nothing of the work area is left."""
    with Victim.start([c_program(name), tmp_path]) as victim:
        victim.expect("ok", "check")
        snapshot = take(victim.pid)
        victim.wait()
        with restored(snapshot) as again:
            assert [_key(vma) for vma in read_maps(again.pid)] == [
                (m.start, m.end, m.prot, m.shared, m.offset, m.path) for m in snapshot.process.mappings
            ]


def _key(vma: Vma) -> tuple[int, int, int, bool, int, str]:
    return vma.start, vma.end, vma.prot, vma.shared, vma.offset, vma.path
