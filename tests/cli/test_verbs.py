# SPDX-License-Identifier: Apache-2.0
"""The verbs on real processes, with and without a daemon."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest
from support.command import icecore
from support.icecored import Icecored
from support.victim import Start, Victim
from support.waiting import wait_until

from icecore.cli.verbs.doctor import CHECKPOINT, RESTORE
from icecore.daemon.doctor import PROBES
from icecore.storage.store import Store

PROGRAM = Path(sys.executable).with_name("icecore")
REPORT = {
    "name", "pid", "id", "kind", "tracker", "tracker_reason", "rounds", "pause_us", "pages_populated", "pages_dirty",
    "pages_stored", "bytes_raw", "bytes_written",
}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def text(*arguments: str, store: Path) -> str:
    """What a person sees."""
    return subprocess.run([PROGRAM, "--store", store, *arguments], text=True, stdout=subprocess.PIPE, check=True).stdout


def rows(value: object) -> list[dict[str, object]]:
    """An array of objects."""
    assert isinstance(value, list)
    return cast("list[dict[str, object]]", value)


def count(victim: Victim) -> int:
    return int(victim.expect("ok", "check"))


@contextmanager
def restored(checkpoint: str, store: Path) -> Generator["subprocess.Popen[str]", None, None]:
    """``icecore restore`` in the foreground: its streams are the victim's."""
    command: list[str | Path] = [PROGRAM, "--store", store, "restore", checkpoint]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def ask(process: "subprocess.Popen[str]", command: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(command + "\n")
    process.stdin.flush()
    return process.stdout.readline().rstrip("\n")


def test_two_checkpoints_and_what_is_told_of_them(start: Start, store: Path) -> None:
    victim = start("counter")
    first = icecore("checkpoint", str(victim.pid), "--name", "job", store=store)
    second = icecore("checkpoint", str(victim.pid), "--name", "job", store=store)
    assert first.status == second.status == 0
    assert first.document.keys() == second.document.keys() == REPORT
    assert (first.document["id"], first.document["kind"], first.document["pid"]) == (1, "keyframe", victim.pid)
    assert (second.document["id"], second.document["kind"], second.document["tracker"]) == (2, "delta", "write-protect")
    log = rows(icecore("log", "job", store=store).document["checkpoints"])
    for row, report in zip(log, (first.document, second.document), strict=True):
        assert {key: row[key] for key in REPORT - {"name"}} == {key: report[key] for key in REPORT - {"name"}}
    assert icecore("show", "job", store=store).document == {"name": "job", **log[1]}
    assert icecore("show", "job@1", store=store).document == {"name": "job", **log[0]}
    status = icecore("status", store=store).document
    assert status["daemon"] is None
    size = sum(int(str(row["bytes_written"])) for row in log)
    assert status["chains"] == [{"name": "job", "checkpoints": 2, "bytes": size, "newest": log[1]}]
    assert count(victim) > 0


def test_the_tracker_can_be_forced(start: Start, store: Path) -> None:
    victim = start("counter")
    for tracker in ("content", "write-protect"):
        outcome = icecore("checkpoint", str(victim.pid), "--name", "job", "--tracker", tracker, store=store)
        assert outcome.document["tracker"] == tracker
    assert icecore("checkpoint", str(victim.pid), "--tracker", "magic", store=store).status == 2


def test_what_people_see(start: Start, store: Path) -> None:
    victim = start("counter")
    said = text("checkpoint", str(victim.pid), "--name", "job", store=store)
    assert said.startswith("checkpoint job@1 (keyframe): paused ")
    assert len(said.splitlines()) == 1
    assert [line.split()[0] for line in text("log", "job", store=store).splitlines()] == ["ID", "@1"]
    assert f"process     {victim.pid} (" in text("show", "job", store=store)
    assert "job" in text("status", store=store).splitlines()[-1]


def test_the_default_name_is_comm_and_pid(start: Start, store: Path) -> None:
    victim = start("counter")
    comm = Path(f"/proc/{victim.pid}/comm").read_text().strip()
    assert icecore("checkpoint", str(victim.pid), store=store).document["name"] == f"{comm}-{victim.pid}"


def test_killed_at_its_checkpoint_and_restored_in_the_foreground(start: Start, store: Path) -> None:
    victim = start("counter")
    before = count(victim)
    assert icecore("checkpoint", str(victim.pid), "--name", "job", "--kill", store=store).status == 0
    assert victim.wait() == -signal.SIGKILL
    with restored("job", store) as process:
        answer, _, after = ask(process, "check").partition(" ")
        assert answer == "ok"
        assert int(after) >= before
        assert ask(process, "quit") == "bye"
        assert process.wait() == 7


def test_restore_passes_signals_on(start: Start, store: Path) -> None:
    victim = start("counter")
    assert icecore("checkpoint", str(victim.pid), "--name", "job", "--kill", store=store).status == 0
    victim.wait()
    with restored("job@1", store) as process:
        assert ask(process, "check").startswith("ok ")
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM


def test_restore_detached(store: Path) -> None:
    with subprocess.Popen(
        ["sleep", "1000"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as sleeper:
        wait_until(lambda: Path(f"/proc/{sleeper.pid}/comm").read_text() == "sleep\n", "the program")
        assert icecore("checkpoint", str(sleeper.pid), "--name", "job", "--kill", store=store).status == 0
    outcome = icecore("restore", "job@1", "--detach", store=store)
    assert outcome.document == {"name": "job", "id": 1, "pid": sleeper.pid}
    pidfd = os.pidfd_open(sleeper.pid)
    assert Path(f"/proc/{sleeper.pid}/comm").read_text() == "sleep\n"
    assert [os.readlink(f"/proc/{sleeper.pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
    assert os.getsid(sleeper.pid) == sleeper.pid
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)


def test_a_checkpoint_that_is_not_there(start: Start, store: Path) -> None:
    victim = start("counter")
    icecore("checkpoint", str(victim.pid), "--name", "job", store=store)
    for arguments in (("show", "job@2"), ("restore", "job@2"), ("log", "other"), ("show", "other")):
        outcome = icecore(*arguments, store=store)
        assert (outcome.status, outcome.error["name"]) == (9, "NoSuchCheckpoint")


def test_a_refused_process_leaves_no_chain(store: Path) -> None:
    program = "import socket; sockets = socket.socketpair(); print('ready', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert icecore("checkpoint", str(process.pid), "--name", "job", store=store).status == 5
        process.kill()
    assert Store.open(store).names() == []


def test_through_the_daemon(start: Start, tmp_path: Path) -> None:
    victim = start("counter")
    with Icecored(tmp_path, real=True) as daemon:
        store, socket = daemon.store, ("--socket", str(daemon.socket))
        tracked = icecore(*socket, "track", str(victim.pid), "--name", "job", "--interval", "200ms", store=store)
        assert tracked.status == 0
        target = tracked.document["target"]
        assert isinstance(target, dict)
        assert (target["name"], target["pid"], target["interval"]) == ("job", victim.pid, 0.2)
        report = icecore(*socket, "checkpoint", str(victim.pid), store=store).document
        assert report.keys() == REPORT
        assert report["name"] == "job"
        log = rows(icecore(*socket, "log", "job", store=store).document["checkpoints"])
        assert report["id"] in [row["id"] for row in log]
        status = icecore(*socket, "status", store=store).document
        assert (status["daemon"], status["chains"]) == (str(daemon.socket), ["job"])
        assert "job" in text(*socket, "status", store=store)
        assert icecore(*socket, "untrack", "job", store=store).document == {"untracked": "job"}
        assert icecore(*socket, "status", store=store).document["targets"] == []
        again = icecore(*socket, "untrack", "job", store=store)
        assert again.status != 0
        assert again.error["exit_code"] == again.status
    assert count(victim) > 0


def test_doctor(store: Path) -> None:
    outcome = icecore("doctor", store=store)
    assert outcome.document["checkpoint"] is outcome.document["restore"] is True
    assert outcome.status == 0
    assert str(store) in str(outcome.document["store"])
    abilities = rows(outcome.document["abilities"])
    assert [ability["name"] for ability in abilities] == list(PROBES)
    assert next(iter(PROBES)) in text("doctor", store=store)


def test_doctor_knows_the_abilities_it_decides_by() -> None:
    assert PROBES.keys() >= (CHECKPOINT | RESTORE)
