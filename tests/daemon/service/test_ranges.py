# SPDX-License-Identifier: Apache-2.0
"""Ranges through the socket: one process under several names, each with its own interval and chain."""

from pathlib import Path

import pytest
from support.icecored import Icecored
from support.service_types import Sleepers, item, target_named
from support.victim import Start

from icecore.errors import Busy, UsageError
from icecore.storage.store import Store

HEAP = [{"name": "heap"}]
SOME = [{"start": 4096, "end": 8192}, {"name": "stack"}]


def test_several_names_for_one_process(daemon: Icecored, sleeper: Sleepers) -> None:
    victim = sleeper()
    with daemon.client() as client:
        client.call("Track", pid=victim.pid, name="whole", interval=1000.0)
        client.call("Track", pid=victim.pid, name="one", interval=0.1, ranges=HEAP)
        client.call("Track", pid=victim.pid, name="two", interval=1000.0, ranges=SOME, tracker="content", exact=False)
        daemon.wait_for("one@4")
        listed = client.call("List")
        assert [item(target, "taken") for target in (target_named(listed, "whole"), target_named(listed, "two"))] == [
            1,
            1,
        ]
        two = target_named(listed, "two")
        assert two["ranges"] == SOME
        assert (two["tracker"], two["tracker_reason"], two["exact"]) == ("content", "it is a fake", False)
        assert target_named(listed, "whole")["ranges"] == []
        with pytest.raises(Busy, match="is held as whole"):
            client.call("Track", pid=victim.pid, name="again")
        with pytest.raises(Busy, match="the name one is in use"):
            client.call("Track", pid=victim.pid, name="one", ranges=HEAP)
        client.call("Untrack", name="one")
        left = client.call("List")
        assert [item(left, "targets", place, "name") for place in (0, 1)] == ["whole", "two"]


def test_whose_checkpoint_it_is(daemon: Icecored, sleeper: Sleepers) -> None:
    victim = sleeper()
    with daemon.client() as client:
        client.call("Track", pid=victim.pid, name="part", interval=1000.0, ranges=HEAP)
        daemon.wait_for("part@1")
        assert item(client.call("Checkpoint", pid=victim.pid, name="part"), "report", "id") == 2
        assert (
            item(client.call("Checkpoint", pid=victim.pid), "report", "name") == f"sh-{victim.pid}"
        )  # as a whole, once
        report = item(client.call("Checkpoint", pid=victim.pid, ranges=SOME, tracker="content"), "report")
        assert (item(report, "name"), item(report, "tracker")) == (f"sh-{victim.pid}-1000-2000", "content")
        with pytest.raises(UsageError, match="its ranges and tracker cannot be chosen"):
            client.call("Checkpoint", name="part", ranges=HEAP, tracker="content")
        client.call("Track", pid=victim.pid, name="whole", interval=1000.0)
        daemon.wait_for("whole@1")
        assert item(client.call("Checkpoint", pid=victim.pid), "report", "name") == "whole"
        with pytest.raises(UsageError, match="tracked as whole"):
            client.call("Checkpoint", pid=victim.pid, name="another")
        assert item(client.call("Checkpoint", pid=victim.pid, ranges=HEAP), "report", "name") == f"sh-{victim.pid}-heap"


def test_names_of_ranges_make_names_of_chains(daemon: Icecored, sleeper: Sleepers) -> None:
    victim = sleeper()
    with daemon.client() as client:
        for named in ("/usr/lib/x86_64-linux-gnu/libc.so.6", "[anon:a b]"):
            found = item(client.call("Track", pid=victim.pid, ranges=[{"name": named}]), "target", "name")
            assert found in (f"sh-{victim.pid}-usr_lib_x86_64-linux-gnu_libc.so.6", f"sh-{victim.pid}-anon_a_b")


def test_with_the_real_engine(directory: Path, start: Start) -> None:
    victim = start("counter")
    with Icecored(directory, real=True) as real, real.client() as client:
        client.call("Track", pid=victim.pid, name="whole", interval=0.1)
        client.call("Track", pid=victim.pid, name="heap", interval=0.1, ranges=HEAP)
        client.call("Track", pid=victim.pid, name="slow", interval=0.3, ranges=[*HEAP, {"name": "stack"}])
        real.wait_for("slow@5: delta .* by write-protect")
        with pytest.raises(UsageError, match="no memory of its own at 1000-2000"):
            client.call("Track", pid=victim.pid, name="none", ranges=[{"start": 4096, "end": 8192}])
        client.call("Untrack", name="heap")
        real.wait_for("slow@[0-9]+: delta")
        for name in ("whole", "slow"):
            assert target_named(client.call("List"), name)["failures"] == 0
        victim.expect("ok", "check")
        assert "failed" not in real.output
        assert "none" not in str(client.call("List")["chains"])
        assert real.stop() == 0
    for name, partial in (("whole", False), ("heap", True), ("slow", True)):
        newest = Store.open(real.store).chain(name).newest()
        assert newest is not None
        assert (newest.ranges, newest.pid) == (partial, victim.pid)
