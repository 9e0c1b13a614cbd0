# SPDX-License-Identifier: Apache-2.0
"""Whatever step fails, and however: no process, no zombie, no fd is left, and the next restore succeeds."""

import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from support.moment import Moment

from icecore.errors import Busy, CannotRestore
from icecore.restore import Restored, restore
from icecore.restore.calls import Calls
from icecore.restore.stub import Stub

STEPS = (
    "checks", "launch", "address space", "memory", "protection", "files", "threads", "signals", "credentials",
    "pending signals", "registers", "release",
)  # fmt: skip


class Injected(Exception):
    """The fault."""


def fail_at(wanted: str, fault: Callable[[], None]) -> Callable[[str], None]:
    def progress(step: str) -> None:
        if step == wanted:
            fault()

    return progress


def raise_injected() -> None:
    raise Injected


def fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def kill(restored: Restored) -> None:
    signal.pidfd_send_signal(restored.pidfd, signal.SIGKILL)
    os.waitpid(restored.pid, 0)
    os.close(restored.pidfd)


def assert_nothing_left(moment: Moment) -> None:
    assert not [t.tid for t in moment.snapshot.process.threads if Path(f"/proc/{t.tid}").exists()]
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def assert_restorable(moment: Moment) -> None:
    with moment.restored() as again:
        again.expect("ok", "check")


def test_every_step_is_told(threads: Moment) -> None:
    told: list[str] = []
    restored = restore(threads.snapshot, progress=told.append)
    kill(restored)
    assert tuple(told) == STEPS


@pytest.mark.parametrize("step", STEPS)
def test_an_error_leaves_nothing(threads: Moment, step: str) -> None:
    before = fds()
    with pytest.raises(Injected):
        restore(threads.snapshot, progress=fail_at(step, raise_injected))
    assert fds() == before
    assert_nothing_left(threads)
    assert_restorable(threads)


def test_a_failing_table_leaves_nothing(threads: Moment, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault comes after a table has run, and before what was to be done with the results: for each in turn."""
    original, left = Stub.run, [0]

    def run(self: Stub, calls: Calls, tid: int | None = None) -> None:
        original(self, calls, tid)
        left[0] -= 1
        if left[0] < 0:
            raise OSError(5, "injected")

    monkeypatch.setattr(Stub, "run", run)
    failed = 0
    while _fails(threads):
        assert_nothing_left(threads)
        failed += 1
        left[0] = failed
    assert failed > len(threads.snapshot.process.threads) + 7


def _fails(moment: Moment) -> bool:
    try:
        restored = restore(moment.snapshot)
    except CannotRestore as error:
        return f"process {moment.pid} failed" in error.message
    kill(restored)
    return False


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_restorer_leaves_nothing(threads: Moment, step: str) -> None:
    """SIGKILL of the restoring process takes the half-made one with it, whoever its parent has become."""

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    restorer = os.fork()
    if restorer == 0:
        with suppress(BaseException):
            restore(threads.snapshot, progress=fail_at(step, die))
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(restorer, 0)[1]) == signal.SIGKILL
    _wait_gone(threads.pid)
    assert_restorable(threads)


def _wait_gone(pid: int) -> None:
    """Until its new parent has reaped it."""
    with suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        assert poll.poll(20_000), "the half-made process lives"
        os.close(pidfd)
        while True:
            os.kill(pid, 0)


def test_death_from_outside_is_an_error(threads: Moment) -> None:
    """Somebody kills the half-made process."""
    pid = threads.pid
    with pytest.raises(CannotRestore, match=str(pid)):
        restore(threads.snapshot, progress=fail_at("files", lambda: os.kill(pid, signal.SIGKILL)))
    assert_nothing_left(threads)


def test_signals_from_outside_wait(threads: Moment) -> None:
    """A signal that comes while the process is being made is for the restored one; SIGSTOP does not hang us."""
    pid = threads.pid

    def disturb() -> None:
        os.kill(pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGCONT)
        os.kill(pid, signal.SIGTERM)

    restored = restore(threads.snapshot, progress=fail_at("files", disturb))
    assert os.WTERMSIG(os.waitpid(restored.pid, 0)[1]) == signal.SIGTERM
    os.close(restored.pidfd)


def test_the_launcher_gets_out_of_the_way(threads: Moment) -> None:
    """The next free pid, which the launcher gets, is the very one that is to be restored."""
    try:
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(threads.pid - 1))
    except OSError:
        pytest.skip("this kernel does not let us choose the next pid")
    try:
        assert_restorable(threads)
    except Busy:
        pytest.skip("somebody else was quicker and got the pid")
    assert_nothing_left(threads)
