# SPDX-License-Identifier: Apache-2.0
"""How the daemon begins and ends: one per store and socket, clean when asked, replaceable when killed."""

import signal
import socket
import stat
from pathlib import Path

import pytest
from support.icecored import Icecored
from support.service_types import Sleepers

from icecore.daemon.service.main import main
from icecore.errors import Busy, DaemonUnreachable, NotPermitted, StoreUnusable, UsageError
from icecore.varlink.client import Client


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(daemon: Icecored, number: signal.Signals) -> None:
    daemon.process.send_signal(number)
    assert daemon.end() == 0
    assert not daemon.socket.exists()
    with pytest.raises(DaemonUnreachable, match="no daemon answers"):
        daemon.client()


def test_sigterm_abandons_the_running_checkpoint(daemon: Icecored, sleeper: Sleepers) -> None:
    victim = sleeper()
    with daemon.client() as client, daemon.client() as waiting:
        client.call("Track", pid=victim.pid, name="slow-one", interval=100.0)
        client.call("Track", pid=sleeper().pid, name="quick", interval=0.1)
        with daemon.at_gate():
            replies = waiting.call_more("Checkpoint", name="slow-one")
            daemon.process.send_signal(signal.SIGTERM)
            daemon.wait_for("SIGTERM: stopping")
        with pytest.raises((DaemonUnreachable, Busy)):
            list(replies)
    assert daemon.end() == 0
    assert "slow-one@" not in daemon.output
    assert "Traceback" not in daemon.output
    assert "closed slow-one" in daemon.output
    assert victim.is_running()
    assert not daemon.socket.exists()


def test_a_second_signal_does_not_wait(daemon: Icecored, sleeper: Sleepers) -> None:
    with daemon.client() as client:
        client.call("Track", pid=sleeper().pid, name="slow-one", interval=100.0)
        with daemon.at_gate():
            daemon.process.send_signal(signal.SIGTERM)
            daemon.wait_for("SIGTERM: stopping")
            daemon.process.send_signal(signal.SIGTERM)
            assert daemon.end() == -signal.SIGTERM


def test_after_kill_9_another_one_takes_its_place(directory: Path, sleeper: Sleepers) -> None:
    victim = sleeper()
    with Icecored(directory) as first, first.client() as client:
        client.call("Track", pid=victim.pid, name="job", interval=0.1)
        first.wait_for("job@1")
        first.process.kill()
        first.end()
        assert stat.S_ISSOCK(first.socket.lstat().st_mode)
        with pytest.raises(DaemonUnreachable):
            first.client()
        with Icecored(directory) as second, second.client() as again:
            again.call("Track", pid=victim.pid, name="job", interval=0.1)
            second.wait_for("job@1")
            assert again.call("List")["chains"] == ["job"]
            assert second.stop() == 0
    assert victim.is_running()


@pytest.mark.parametrize("same", ["store", "socket"])
def test_a_second_daemon_is_refused(
    daemon: Icecored, directory: Path, capsys: pytest.CaptureFixture[str], same: str
) -> None:
    store = daemon.store if same == "store" else directory / "store2"
    path = daemon.socket if same == "socket" else directory / "socket2"
    assert main(["--store", str(store), "--socket", str(path)]) == Busy.exit_code
    said = capsys.readouterr().err
    assert f"another icecored (pid {daemon.process.pid}) uses the {same} {directory}" in said
    assert len(said.splitlines()) == 2
    with daemon.client() as client:
        client.call("List")
    assert (directory / "socket2").exists() is False


def refused(directory: Path, capsys: pytest.CaptureFixture[str], **paths: Path) -> tuple[int, str]:
    given = {"store": directory / "store", "socket": directory / "icecore.sock", **paths}
    status = main([f"--{name}={path}" for name, path in given.items()])
    return status, capsys.readouterr().err


def test_a_file_that_is_no_socket_is_left_alone(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = directory / "precious"
    path.write_text("mine")
    status, said = refused(directory, capsys, socket=path)
    assert (status, path.read_text()) == (UsageError.exit_code, "mine")
    assert f"{path} is not a socket" in said


def test_somebody_elses_socket_is_left_alone(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = directory / "theirs"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as theirs:
        theirs.bind(str(path))
        theirs.listen()
        status, said = refused(directory, capsys, socket=path)
        assert status == Busy.exit_code
        assert f"another program listens on {path}" in said
        assert path.exists()


@pytest.mark.parametrize("path", ["x" * 120, "file/socket", "/proc/icecore.sock", "/proc/1/icecore/icecore.sock"])
def test_a_socket_that_cannot_be(directory: Path, capsys: pytest.CaptureFixture[str], path: str) -> None:
    (directory / "file").touch()
    status, said = refused(directory, capsys, socket=directory / path)
    assert status in (UsageError.exit_code, NotPermitted.exit_code)
    assert "Traceback" not in said
    assert len(said.splitlines()) == 2


@pytest.mark.parametrize("path", [Path("/proc/icecore"), Path("/dev/null")])
def test_a_store_that_cannot_be(directory: Path, capsys: pytest.CaptureFixture[str], path: Path) -> None:
    status, said = refused(directory, capsys, store=path)
    assert status == StoreUnusable.exit_code
    assert str(path) in said


def test_a_directory_that_is_no_store_is_left_alone(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = directory / "home"
    home.mkdir()
    (home / "letter").write_text("dear")
    status, _ = refused(directory, capsys, store=home)
    assert status == StoreUnusable.exit_code
    assert [path.name for path in home.iterdir()] == ["letter"]


def test_everybody_may_connect_and_only_root_may_look(daemon: Icecored) -> None:
    assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o666
    assert stat.S_IMODE(daemon.store.stat().st_mode) == 0o700


def test_nobody_there(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path, tmp_path / ("x" * 200)):
        with pytest.raises(DaemonUnreachable, match="no daemon answers on"):
            Client(path)
