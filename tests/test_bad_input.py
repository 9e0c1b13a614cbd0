# SPDX-License-Identifier: Apache-2.0
"""Processes that cannot be checkpointed, or that go away: a clear error, the target unharmed, the chain as it was.

Each is tried through the library and, with its exit status, through the command line.
"""

import os
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.command import NOBODY, Outcome, icecore
from support.elf32 import write_victim
from support.harm import examine, tracer, vdso_image_length
from support.victim import Start
from support.waiting import wait_until

from icecore.daemon.target import Target
from icecore.errors import Busy, CannotRestore, IcecoreError, NoSuchProcess, NotPermitted

KTHREADD = 2


def _refused(outcome: Outcome, error: type[IcecoreError]) -> str:
    """The command ended as documented; returns its message."""
    assert outcome.status == error.exit_code, outcome.complaint
    assert outcome.error["name"] == error.name
    assert "Traceback" not in outcome.complaint
    message = outcome.error["message"]
    assert isinstance(message, str)
    assert "\n" not in message
    return message


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where a store would be made."""
    return tmp_path / "store"


def _both_refuse(pid: int, error: type[IcecoreError], store: Path) -> str:
    """The library and the command refuse with the same message; no chain has come into being with a layer in it."""
    with pytest.raises(error) as caught:
        Target.open(pid).close()
    message = _refused(icecore("checkpoint", str(pid), "--name", "job", store=store), error)
    assert message == caught.value.message
    assert str(pid) in message
    assert caught.value.remedy
    assert not list(store.rglob("*.layer"))
    return message


def test_unknown_pid(store: Path) -> None:
    """A pid that nobody has."""
    process = subprocess.Popen(["true"])
    process.wait()
    _both_refuse(process.pid, NoSuchProcess, store)


@pytest.mark.parametrize("number", ["0", "-1", "x", "4194304000"])
def test_no_pid_at_all(number: str, store: Path) -> None:
    """What is no process id is a mistake on the command line, or names nobody."""
    assert icecore("checkpoint", "--", number, store=store).status in (2, NoSuchProcess.exit_code)


def test_kernel_thread(store: Path) -> None:
    """kthreadd, where this pid namespace has it."""
    if Path(f"/proc/{KTHREADD}/comm").read_text(encoding="ascii").strip() != "kthreadd":
        pytest.skip("no kernel thread is visible here")
    assert "kernel thread" in _both_refuse(KTHREADD, CannotRestore, store)


def test_zombie(store: Path) -> None:
    """A child that has ended and was not waited for."""
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert "zombie" in _both_refuse(process.pid, NoSuchProcess, store)


def test_thread_that_is_no_process(start: Start, store: Path) -> None:
    """The id of a thread: the message says of which process."""
    victim = start("threads")
    tid = max(int(name) for name in os.listdir(f"/proc/{victim.pid}/task"))
    assert str(victim.pid) in _both_refuse(tid, NoSuchProcess, store)
    victim.expect("ok", "check")


def test_thirty_two_bit_process(start: Start, tmp_path: Path, store: Path) -> None:
    """A 32-bit program goes on as if nothing had been asked."""
    victim = start([write_victim(tmp_path / "small")])
    assert "32-bit" in _both_refuse(victim.pid, CannotRestore, store)
    victim.expect("ok", "check")


def test_another_users_process(start: Start, public: Path) -> None:
    """Nobody asks for root's process."""
    victim = start("counter")
    message = _refused(icecore("checkpoint", str(victim.pid), store=public / "s", user=NOBODY), NotPermitted)
    assert str(victim.pid) in message
    victim.expect("ok", "check")


def test_own_process_of_an_ordinary_user(start: Start, public: Path) -> None:
    """The same user's own process is checkpointed without any privilege."""
    victim = start("counter", user=NOBODY)
    outcome = icecore("checkpoint", str(victim.pid), store=public / "s", user=NOBODY)
    assert outcome.status == 0, outcome.complaint
    assert outcome.document["kind"] == "keyframe"
    victim.expect("ok", "check")


def test_process_traced_by_gdb(start: Start, store: Path) -> None:
    """A real gdb has it: it is named, keeps the process, and once it is gone a checkpoint works."""
    victim = start("counter")
    with _gdb_on(victim.pid) as gdb:
        message = _both_refuse(victim.pid, Busy, store)
        assert "gdb" in message
        assert str(gdb) in message
        assert tracer(victim.pid) == gdb
    victim.expect("ok", "check")
    assert icecore("checkpoint", str(victim.pid), store=store).status == 0


@contextmanager
def _gdb_on(pid: int) -> Generator[int]:
    command = ["gdb", "-nx", "-q", "-iex", "set debuginfod enabled off", "-p", str(pid)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as gdb:
        try:
            wait_until(lambda: tracer(pid) == gdb.pid, "gdb attaches")
            yield gdb.pid
        finally:
            gdb.communicate(b"detach\nquit\n", timeout=60)


def test_traced_while_it_is_checkpointed(start: Start, store: Path) -> None:
    """gdb comes between the check and the freeze: refused, gdb keeps the process."""
    from icecore.daemon.engine import Checkpointer
    from icecore.storage.store import Store

    victim = start("counter")
    chain = Store.open(store, create=True).create_chain("job")
    with Target.open(victim.pid) as target, Checkpointer.open(target, chain) as checkpointer:
        checkpointer.checkpoint()
        with _gdb_on(victim.pid), pytest.raises(Busy, match="gdb"):
            checkpointer.checkpoint()
        victim.expect("ok", "check")
        assert checkpointer.checkpoint().kind == "delta"
    assert [layer.id for layer in chain.layers()] == [1, 2]


def test_stopped_process_stays_stopped(start: Start, store: Path) -> None:
    """Job control is the user's: a process stopped by SIGSTOP is checkpointed or refused, and is stopped afterwards."""
    victim = start("threads")
    victim.signal(signal.SIGSTOP)
    wait_until(lambda: examine(victim.pid, 0).state == "T", "the victim stops")
    assert icecore("checkpoint", str(victim.pid), store=store).status in (0, CannotRestore.exit_code)
    wait_until(lambda: examine(victim.pid, 0).state == "T", "the victim is stopped again")
    victim.signal(signal.SIGCONT)
    victim.expect("ok", "check")


@pytest.mark.parametrize("verdict", ["errno", "kill"])
def test_process_under_seccomp(verdict: str, start: Start, store: Path) -> None:
    """Refused for the filter; nothing that the filter denies was tried in the victim's name."""
    victim = start("seccomp", verdict)
    outcome = icecore("checkpoint", str(victim.pid), store=store)
    assert "seccomp" in _refused(outcome, CannotRestore)
    victim.expect("ok", "check")


def test_refusals_name_everything_at_once(start: Start, store: Path) -> None:
    """All reasons in one message, none after the first is mended; nothing was done to the process."""
    victim = start("unrestorable")
    length = vdso_image_length(victim.pid)
    before = examine(victim.pid, length)
    outcome = icecore("checkpoint", str(victim.pid), store=store)
    _refused(outcome, CannotRestore)
    reasons = str(outcome.error["reasons"])
    for word in ("socket", "deleted", "inotify", "child"):
        assert word in reasons
    after = examine(victim.pid, length)
    assert (after.fds, after.mappings, after.code) == (before.fds, before.mappings, before.code)
    victim.expect("ok", "check")
