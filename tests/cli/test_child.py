# SPDX-License-Identifier: Apache-2.0
"""Children, and the inbox that waits for them and for signals."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from icecore.cli.child import Child
from icecore.cli.inbox import Inbox, block_all_signals, exit_status
from icecore.cli.verbs.restore import attend, ends_with_us
from icecore.errors import UsageError


def python(script: str) -> Child:
    return Child.start([sys.executable, "-c", script])


@pytest.fixture
def sleeper() -> Iterator[Child]:
    child = Child.start(["sleep", "1000"])
    yield child
    child.send(signal.SIGKILL)
    child.reap()
    child.close()


def test_exit_code() -> None:
    child = python("raise SystemExit(7)")
    assert exit_status(child.reap()) == 7
    child.close()


def test_only_the_standard_streams_are_passed_on() -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    child = python("import os; raise SystemExit(len([fd for fd in os.listdir('/proc/self/fd') if int(fd) > 2]))")
    assert exit_status(child.reap()) == 1  # the one that lists them
    for fd in (reader, writer):
        os.close(fd)
    child.close()


def test_killed_by_a_signal() -> None:
    child = python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert exit_status(child.reap()) == 128 + signal.SIGSEGV
    child.close()


def test_the_child_has_a_session_of_its_own(sleeper: Child) -> None:
    assert os.getsid(sleeper.pid) == os.getpgid(sleeper.pid) == sleeper.pid


@pytest.mark.parametrize("name", ["PIPE", "XFSZ"])
def test_signals_that_python_ignores_are_not_inherited(name: str) -> None:
    child = Child.start(["sh", "-c", f"kill -{name} $$"])
    assert exit_status(child.reap()) == 128 + signal.Signals[f"SIG{name}"]
    child.close()


@pytest.mark.parametrize("command", ["no-such-program-here", "/nonexistent/program"])
def test_a_program_that_does_not_exist(command: str) -> None:
    with pytest.raises(UsageError, match=command):
        Child.start([command])


def test_a_signal_to_a_child_that_has_ended_is_nothing() -> None:
    child = python("")
    os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOWAIT)
    assert child.has_ended()
    child.send(signal.SIGUSR1)
    assert child.reap() == 0
    child.send(signal.SIGUSR1)
    child.close()


def test_the_inbox_hears_signals_and_restores_the_handlers() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with Inbox() as inbox:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        heard = inbox.wait()
        assert set(heard) == {signal.SIGUSR1, signal.SIGTERM}
        assert inbox.wait(time.monotonic()) == []
    assert signal.getsignal(signal.SIGUSR1) == before


def test_the_inbox_wakes_for_a_thread_and_for_a_descriptor(sleeper: Child) -> None:
    with Inbox([sleeper.pidfd]) as inbox:
        thread = threading.Thread(target=inbox.wake)
        thread.start()
        assert inbox.wait() == []
        thread.join()
        sleeper.send(signal.SIGKILL)
        assert inbox.wait() == []
    assert sleeper.has_ended()


def test_a_thread_with_all_signals_blocked_does_not_take_them() -> None:
    masks: list[set[int]] = []

    def body() -> None:
        block_all_signals()
        masks.append({int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())})

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert {signal.SIGTERM, signal.SIGUSR1, signal.SIGRTMIN} <= masks[0]


def test_attend_passes_signals_on_and_takes_the_status(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    child = python(
        "import os, signal\n"
        "signal.signal(signal.SIGUSR1, lambda *_: os._exit(42))\n"
        f"open({str(ready)!r}, 'w').write('x')\n"
        "while True: signal.pause()"
    )

    def when_ready() -> None:
        ready.read_text()
        os.kill(os.getpid(), signal.SIGUSR1)

    with Inbox() as inbox:
        thread = threading.Thread(target=when_ready)
        thread.start()
        status = attend(child, inbox)
        thread.join()
    child.close()
    assert status == 42


def test_what_does_not_outlive_us() -> None:
    read, write = os.pipe()
    null = os.open(os.devnull, os.O_RDWR)
    assert ends_with_us(read)
    assert ends_with_us(write)
    assert not ends_with_us(null)
    for fd in (read, write, null):
        os.close(fd)
    assert ends_with_us(null)
