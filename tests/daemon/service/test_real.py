# SPDX-License-Identifier: Apache-2.0
"""The service with the real engine: real victims are checkpointed through the socket, and brought back."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.harm import examine, vdso_image_length
from support.icecored import NOBODY, Icecored
from support.memory import read_areas
from support.service_types import item, target_named
from support.victim import Victim

from icecore.daemon.service.api import interface
from icecore.errors import CannotRestore
from icecore.storage.store import Store
from icecore.varlink.validate import validate

Start = Callable[..., Victim]


@pytest.fixture
def real(directory: Path) -> Iterator[Icecored]:
    """A daemon with the real engine."""
    with Icecored(directory, real=True) as running:
        yield running
        assert running.stop() == 0
        assert "Traceback" not in running.output


def test_tracked_killed_and_restored(real: Icecored, start: Start) -> None:
    victim = start("counter")
    with real.client() as client:
        client.call("Track", pid=victim.pid, name="job", interval=0.1)
        real.wait_for("job@4: delta .* by write-protect")
        counted = int(victim.expect("ok", "check"))
        real.wait_for("job@[0-9]+: delta")
        taken = item(client.call("Checkpoint", name="job"), "report", "id")
        victim.kill()
        real.wait_for("job: process .* has ended")
        for reply in (shown := list(client.call_more("Show", name="job"))):
            validate(interface(), interface().methods["Show"].result, reply)
        checkpoints = item({**shown[0]}, "checkpoints")
        assert isinstance(checkpoints, list)
        ids = [item(checkpoint, "id") for checkpoint in checkpoints]
        assert ids == list(range(1, len(ids) + 1))
        assert taken in ids
        assert item(checkpoints[0], "kind") == "keyframe"
        assert all(item(checkpoint, "kind") == "delta" for checkpoint in checkpoints[1:])
        assert client.call("Show", name="job", id=2)["checkpoints"] == checkpoints[1:2]
    with Store.open(real.store).chain("job").reader() as reader, Victim.restored_from(reader) as back:
        assert int(back.expect("ok", "check")) >= counted


def test_untracking_leaves_nothing_in_the_target(real: Icecored, start: Start) -> None:
    victim = start("threads")
    vdso = vdso_image_length(victim.pid)
    before = examine(victim.pid, vdso)
    with real.client() as client:
        client.call("Track", pid=victim.pid, name="job", interval=0.1)
        real.wait_for("job@3")
        client.call("Untrack", name="job")
        after = examine(victim.pid, vdso)
    assert (after.fds, after.code, after.tracer) == (before.fds, before.code, 0)
    victim.expect("ok", "check")


def test_progress_is_streamed(real: Icecored, start: Start) -> None:
    victim = start("counter")
    description = interface()
    with real.client() as client:
        replies = list(client.call_more("Checkpoint", pid=victim.pid, name="once"))
        for reply in replies:
            validate(description, description.methods["Checkpoint"].result, reply)
        assert item(replies[-1]["report"], "kind") == "keyframe"
        assert [*replies[0]] == ["progress"]
        assert item(client.call("Checkpoint", pid=victim.pid, name="once")["report"], "kind") == "delta"
    victim.expect("ok", "check")


def test_checkpoint_and_kill_keeps_that_very_moment(real: Icecored, start: Start) -> None:
    victim = start("counter")
    with real.client() as client:
        client.call("Checkpoint", pid=victim.pid, name="last", kill=True)
    assert victim.wait() == -signal.SIGKILL
    with Store.open(real.store).chain("last").reader() as reader, Victim.restored_from(reader) as back:
        back.expect("ok", "check")


def test_what_cannot_be_restored_is_refused_by_name(real: Icecored, start: Start) -> None:
    code = (
        "import socket,os\ns = socket.create_server(('127.0.0.1', 0))\nprint('ready', os.getpid(), flush=True)\ninput()"
    )
    victim = start(("/usr/bin/python3", "-I", "-c", code))
    with real.client() as client:
        for method in ("Track", "Checkpoint"):
            with pytest.raises(CannotRestore, match="socket") as caught:
                client.call(method, pid=victim.pid, name="job")
            assert any("fd 3" in reason for reason in caught.value.reasons)
        assert client.call("List")["chains"] == []
    assert victim.is_running()


def test_another_user_s_own_process(real: Icecored, start: Start) -> None:
    victim = start("counter", user=NOBODY)
    with real.client_of(NOBODY) as client:
        client.call("Track", pid=victim.pid, name="mine", interval=0.1)
        real.wait_for("mine@2: delta")
        assert target_named(client.call("List"), "mine")["owner"] == NOBODY
    victim.expect("ok", "check")


def test_kill_9_of_the_daemon_harms_nobody(directory: Path, start: Start) -> None:
    victim = start("counter")
    for _ in range(5):
        with Icecored(directory, real=True) as running, running.client() as client:
            client.call("Track", pid=victim.pid, name="job", interval=0.1)
            running.wait_for("job@[0-9]+: ")
            replies = client.call_more("Checkpoint", name="job")
            next(replies)
            running.process.kill()
            running.end()
        victim.expect("ok", "check")
    newest = Store.open(directory / "store").chain("job").newest()
    assert newest is not None
    assert newest.id >= 5


def test_exec_begins_a_new_keyframe(real: Icecored, start: Start) -> None:
    victim = start(("/bin/sh", "-c", "echo ready $$; read line; exec /bin/sh -c 'echo now; read line'"))
    with real.client() as client:
        client.call("Track", pid=victim.pid, name="job", interval=0.1)
        real.wait_for("job@2")
        assert victim.ask("go") == "now"
        while "keyframe" not in real.wait_for("job@[0-9]+: "):
            pass
        assert target_named(client.call("List"), "job")["state"] != "exited"
        with Store.open(real.store).chain("job").reader() as reader:
            assert reader.info.pid == victim.pid


def test_ranges_alone_are_kept(real: Icecored, start: Start) -> None:
    victim = start("counter")
    heap = next(area for area in read_areas(victim.pid) if area.path == "[heap]")
    with real.client() as client:
        client.call("Track", pid=victim.pid, name="heap", interval=0.1, ranges=[{"start": heap.start, "end": heap.end}])
        real.wait_for("heap@2: delta")
        client.call("Untrack", name="heap")
        newest = item(client.call("Show", name="heap"), "checkpoints", 0)
    populated = item(newest, "pages_populated")
    assert isinstance(populated, int)
    assert 0 < populated <= (heap.end - heap.start) // 4096
    victim.expect("ok", "check")


def test_many_targets_at_once(real: Icecored, start: Start) -> None:
    victims = [start("counter") for _ in range(6)]
    with real.client() as client:
        for number, victim in enumerate(victims):
            client.call("Track", pid=victim.pid, name=f"job{number}", interval=0.2)
        for number in range(6):
            while item(target_named(client.call("List"), f"job{number}"), "taken") == 0:
                real.wait_for("job.@")
    for victim in victims:
        victim.expect("ok", "check")
