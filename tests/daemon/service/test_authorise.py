# SPDX-License-Identifier: Apache-2.0
"""Who may do what, asked with real uids."""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from support.icecored import NOBODY, Icecored
from support.service_types import Sleepers, target_named
from support.victim import Victim

from icecore.errors import NoSuchCheckpoint, NotPermitted
from icecore.storage.layer import LayerStats
from icecore.storage.runs import EMPTY
from icecore.storage.store import Store

OTHER = NOBODY - 1


def test_a_user_reaches_processes_of_its_own(daemon: Icecored, sleeper: Sleepers) -> None:
    victim = sleeper(user=NOBODY)
    with daemon.client_of(NOBODY) as client:
        client.call("Track", pid=victim.pid, name="mine", interval=0.1)
        daemon.wait_for("mine@2")
        assert target_named(client.call("List"), "mine")["owner"] == NOBODY
        client.call("Checkpoint", name="mine")
        client.call("Checkpoint", pid=victim.pid)
        client.call("Untrack", name="mine")
        client.call("Checkpoint", pid=victim.pid, name="mine", kill=True)
    victim.wait()


@pytest.mark.parametrize("owner", [None, OTHER], ids=["root's", "another user's"])
@pytest.mark.parametrize("method", ["Track", "Checkpoint"])
def test_a_user_reaches_no_others(daemon: Icecored, sleeper: Sleepers, owner: int | None, method: str) -> None:
    victim = sleeper(user=owner)
    with daemon.client_of(NOBODY) as client, daemon.client() as root:
        with pytest.raises(NotPermitted, match=f"process {victim.pid} .sh. does not belong to uid {NOBODY}"):
            client.call(method, pid=victim.pid, name="job")
        assert root.call("List") == {"targets": [], "chains": []}
    assert victim.is_running()


def test_what_belongs_to_others_looks_absent(daemon: Icecored, sleeper: Sleepers) -> None:
    with daemon.client() as root, daemon.client_of(NOBODY) as client, daemon.client_of(OTHER) as other:
        root.call("Track", pid=sleeper().pid, name="roots", interval=0.1)
        root.call("Track", pid=sleeper(user=NOBODY).pid, name="nobodys", interval=0.1)
        assert root.call("List")["chains"] == ["nobodys", "roots"]
        listed = client.call("List")
        assert listed["chains"] == ["nobodys"]
        assert target_named(listed, "nobodys")["owner"] == NOBODY
        assert other.call("List") == {"targets": [], "chains": []}
        for caller, name in ((client, "roots"), (other, "roots"), (other, "nobodys")):
            for method in ("Show", "Untrack", "Checkpoint"):
                with pytest.raises(NoSuchCheckpoint, match=name):
                    caller.call(method, name=name)
        root.call("Untrack", name="roots")
        assert client.call("Show", name="nobodys")["owner"] == NOBODY
        with pytest.raises(NoSuchCheckpoint, match="roots"):
            client.call("Show", name="roots")


def test_a_chain_stays_its_owners(daemon: Icecored, sleeper: Sleepers) -> None:
    """Else a user could have root's memory written where the user may read it, or the other way round."""
    with daemon.client() as root, daemon.client_of(NOBODY) as client:
        keep = sleeper(user=NOBODY)
        client.call("Checkpoint", pid=keep.pid, name="nobodys")
        write_layer(daemon, "nobodys")
        root.call("Checkpoint", pid=sleeper().pid, name="roots")
        write_layer(daemon, "roots")
        for caller, victim, name in (
            (root, sleeper(), "nobodys"),
            (root, sleeper(user=OTHER), "nobodys"),
            (client, keep, "roots"),
        ):
            with pytest.raises(NotPermitted, match=f"the name {name} is taken"):
                caller.call("Track", pid=victim.pid, name=name)
            with pytest.raises(NotPermitted, match=f"the name {name} is taken"):
                caller.call("Checkpoint", pid=victim.pid, name=name)


def write_layer(daemon: Icecored, name: str) -> None:
    """Something in the chain: an empty one is anybody's."""
    chain = Store.open(daemon.store).chain(name)
    with chain.writer() as writer:
        writer.commit(None, EMPTY, EMPTY, EMPTY, LayerStats())


def test_a_setuid_program_is_not_its_callers(daemon: Icecored, start: Callable[..., Victim], directory: Path) -> None:
    for bits in (stat.S_ISUID, stat.S_ISGID):
        program = directory / f"cat-{bits:o}"
        shutil.copy(shutil.which("bash") or "/bin/bash", program)
        program.chmod(0o755 | bits)
        victim = start((program, "-p", "-c", "echo ready $$; read line"), user=NOBODY)
        with daemon.client_of(NOBODY) as client, pytest.raises(NotPermitted, match="does not belong"):
            client.call("Track", pid=victim.pid)


def test_a_program_that_becomes_setuid_while_tracked(
    daemon: Icecored, start: Callable[..., Victim], directory: Path
) -> None:
    program = directory / "setuid"
    shutil.copy(shutil.which("bash") or "/bin/bash", program)
    program.chmod(0o4755)
    victim = start(
        ("/bin/sh", "-c", f"echo ready $$; read line; exec {program} -p -c 'echo now; read line'"), user=NOBODY
    )
    with daemon.client_of(NOBODY) as client:
        client.call("Track", pid=victim.pid, name="job", interval=0.1)
        daemon.wait_for("job@1")
        assert victim.ask("go") == "now"
        daemon.wait_for(
            f"job: checkpoint of pid {victim.pid} failed: .* no longer belongs to uid {NOBODY} but to uid 0"
        )
        with pytest.raises(NotPermitted):
            client.call("Checkpoint", name="job", kill=True)
    assert victim.is_running()


def test_a_process_that_is_not_dumpable(daemon: Icecored, start: Callable[..., Victim], directory: Path) -> None:
    """An executable that its user may not read: the kernel lets the user not look inside."""
    program = directory / "secret"
    shutil.copy(shutil.which("bash") or "/bin/bash", program)
    program.chmod(0o711)
    victim = start((program, "-c", "echo ready $$; read line"), user=NOBODY)
    with daemon.client_of(NOBODY) as client, pytest.raises(NotPermitted, match="does not belong"):
        client.call("Track", pid=victim.pid)


def test_the_callers_gid_counts_as_for_ptrace(daemon: Icecored, sleeper: Sleepers) -> None:
    victim = sleeper(user=NOBODY)
    os.setegid(OTHER)
    os.seteuid(NOBODY)
    try:
        client = daemon.client()
    finally:
        os.seteuid(0)
        os.setegid(0)
    with client, pytest.raises(NotPermitted):
        client.call("Track", pid=victim.pid)


@pytest.mark.parametrize("pid", [2, os.getpid()], ids=["a kernel thread", "root's pytest"])
def test_processes_that_nobody_should_touch(daemon: Icecored, pid: int) -> None:
    with daemon.client_of(NOBODY) as client, pytest.raises(Exception, match=r"process|pid"):
        client.call("Track", pid=pid)
