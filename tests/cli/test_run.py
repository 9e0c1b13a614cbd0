# SPDX-License-Identifier: Apache-2.0
"""``icecore run`` on real jobs: kept, stopped, killed, resumed, ended."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.elf32 import write_victim
from support.waiting import wait_until

from icecore.storage.store import Store

PROGRAM = Path(sys.executable).with_name("icecore")

COUNTER = """
import os, signal, sys
count = 0
def more(*_):
    global count
    count += 1
    os.write(1, b"%d\\n" % count)  # print() may be interrupted in the middle of "ready"
signal.signal(signal.SIGUSR1, more)
signal.signal(signal.SIGUSR2, lambda *_: sys.exit(7))
print("ready", flush=True)
while True:
    signal.pause()
"""

SOCKET_HOLDER = """
import signal, socket, sys
left, right = socket.socketpair()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(4))
print("ready", flush=True)
while True:
    signal.pause()
"""


class Runner:
    """``icecore run`` as a child; its standard output is that of the job."""

    def __init__(self, store: Path, script: str, *options: str) -> None:
        command: list[str | Path] = [
            PROGRAM,
            "--store",
            store,
            "run",
            "--name",
            "job",
            "--interval",
            "100ms",
            *options,
            "--",
        ]
        self.process: subprocess.Popen[str] = subprocess.Popen(
            [*command, sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def said(self) -> str:
        """The next line on standard error."""
        assert self.process.stderr is not None
        return self.process.stderr.readline().rstrip("\n")

    def finish(self) -> tuple[int, str, str]:
        """Exit status, the rest of standard output, the rest of standard error."""
        out, error = self.process.communicate(timeout=60)
        return self.process.returncode, out, error


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def run(store: Path) -> Iterator["Run"]:
    with ExitStack() as stack:
        yield Run(store, stack)


class Run:
    """Starts runners, and ends at last what they and their jobs left."""

    def __init__(self, store: Path, stack: ExitStack) -> None:
        self.store = store
        self.stack = stack

    def __call__(self, script: str = COUNTER, *options: str) -> Runner:
        runner = Runner(self.store, script, *options)
        self.stack.callback(self.end, runner)
        return runner

    def end(self, runner: Runner) -> None:
        if runner.process.poll() is None:
            runner.send(signal.SIGTERM)
        runner.finish()


def job_pid(store: Path) -> int:
    newest = Store.open(store).chain("job").newest()
    assert newest is not None
    return newest.pid


def until_checkpoint(store: Path) -> int:
    """Waits for one checkpoint more than there are; the pid of the job."""
    chains = store / "chains" / "job"
    before = set(chains.glob("*.layer"))
    wait_until(lambda: set(chains.glob("*.layer")) != before, "a checkpoint")
    return job_pid(store)


def test_the_status_of_the_job_is_ours(run: Run) -> None:
    runner = run("raise SystemExit(7)")
    assert runner.finish()[0] == 7


def test_the_signal_that_killed_the_job(run: Run) -> None:
    runner = run("import os; os.abort()")
    assert runner.finish()[0] == 128 + signal.SIGABRT


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_and_resumed(run: Run, store: Path, number: signal.Signals) -> None:
    runner = run()
    assert runner.line() == "ready"
    runner.send(signal.SIGUSR1)
    assert runner.line() == "1"
    runner.send(number)
    status, out, error = runner.finish()
    assert (status, out) == (128 + number, "")
    assert "the same command goes on from there" in error
    pid = job_pid(store)
    again = run()
    assert f"as process {pid}" in again.said()
    again.send(signal.SIGUSR1)
    assert again.line() == "2"


def test_killed_and_resumed_from_the_newest(run: Run, store: Path) -> None:
    runner = run()
    assert runner.line() == "ready"
    runner.send(signal.SIGUSR1)
    assert runner.line() == "1"
    os.kill(until_checkpoint(store), signal.SIGKILL)
    assert runner.finish()[0] == 128 + signal.SIGKILL
    again = run()
    assert again.said().startswith("icecore: resumed job@")
    again.send(signal.SIGUSR1)
    assert again.line() == "2"
    again.send(signal.SIGUSR2)
    assert again.finish()[0] == 7


def test_a_job_that_ended_by_itself_starts_anew(run: Run, store: Path) -> None:
    runner = run()
    assert runner.line() == "ready"
    until_checkpoint(store)
    runner.send(signal.SIGUSR2)
    assert runner.finish()[0] == 7
    assert Store.open(store).chain("job").ended() == 7
    again = run()
    assert again.line() == "ready"
    assert Store.open(store).chain("job").ended() is None


def test_twice_at_the_same_time(run: Run) -> None:
    runner = run()
    assert runner.line() == "ready"
    status, _, error = run().finish()
    assert status == 10
    assert f"process {runner.process.pid}" in error


def test_a_job_that_cannot_be_checkpointed_goes_on(run: Run) -> None:
    runner = run(SOCKET_HOLDER)
    assert runner.line() == "ready"
    assert "socket" in runner.said()
    runner.send(signal.SIGTERM)
    status, _, error = runner.finish()
    assert status == 143
    assert "the last checkpoint failed" in error


def test_json(run: Run) -> None:
    runner = run(COUNTER, "--json")
    assert runner.line() == "ready"
    runner.send(signal.SIGUSR2)
    status, out, _ = runner.finish()
    found = json.loads(out)
    assert status == found["status"] == 7
    assert found["ended"] is True
    assert found["name"] == "job"


def test_no_name_makes_one_of_the_command(store: Path, tmp_path: Path) -> None:
    command: list[str | Path] = [PROGRAM, "--store", store, "run", "--", "true"]
    for directory in (tmp_path, tmp_path, Path("/")):
        assert subprocess.run(command, cwd=directory, check=False).returncode == 0
    names = Store.open(store).names()
    assert len(names) == 2
    assert all(name.startswith("true-") for name in names)


def test_a_job_that_can_never_be_checkpointed_runs_all_the_same(run: Run, tmp_path: Path) -> None:
    """A 32-bit program: even taking hold of it is refused."""
    program = tmp_path / "elf32"
    write_victim(program)
    runner = run(f"import os; os.execv({str(program)!r}, ['elf32'])")
    assert "32-bit" in runner.said()
    runner.send(signal.SIGTERM)
    runner.process.wait()
    status, _, error = runner.finish()
    assert status == 143
    assert "the last checkpoint failed" in error


def test_jobs_that_end_at_once(store: Path) -> None:
    command: list[str | Path] = [PROGRAM, "--store", store, "run", "--name", "job", "--interval", "100ms", "--"]
    for _ in range(4):
        assert subprocess.run([*command, "true"], check=False).returncode == 0
        assert subprocess.run([*command, "false"], check=False).returncode == 1


def test_a_job_whose_keeper_was_killed_is_not_started_twice(run: Run, store: Path) -> None:
    runner = run()
    assert runner.line() == "ready"
    pid = until_checkpoint(store)
    runner.send(signal.SIGKILL)
    runner.process.wait()
    try:
        assert Path(f"/proc/{pid}/stat").read_text().split()[2] in "SR"
        status, _, error = run().finish()
        assert status == 10
        assert f"pid {pid} is taken by process {pid}" in error
    finally:
        os.kill(pid, signal.SIGKILL)
