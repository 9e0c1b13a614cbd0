# SPDX-License-Identifier: Apache-2.0
"""When checkpoints are taken, and what happens around them."""

import signal

import pytest
from support.icecored import Icecored
from support.service_types import Sleepers, item, target_named

from icecore.daemon.service.schedule import MAX_PAUSE, next_due
from icecore.errors import Busy, CannotRestore, IcecoreError, NoSuchCheckpoint, NoSuchProcess, TargetGone, UsageError
from icecore.varlink.framing import encode


@pytest.mark.parametrize(
    ("due", "now", "interval", "expected"),
    [
        (10.0, 10.1, 1.0, 11.0),
        (10.0, 11.0, 1.0, 11.0),
        (10.0, 11.5, 1.0, 12.0),
        (10.0, 10.0, 1.0, 11.0),
        (0, 7, 2.0, 8),
    ],
)
def test_on_the_grid_and_late_rounds_are_left_out(due: float, now: float, interval: float, expected: float) -> None:
    assert next_due(due, now, interval, 0) == expected


def test_failures_are_tried_again_later_and_later() -> None:
    waits = [next_due(0.0, 100.0, 1.0, failures) - 100.0 for failures in range(1, 40)]
    assert waits[:4] == [2.0, 4.0, 8.0, 16.0]
    assert waits[-1] == MAX_PAUSE
    assert next_due(0.0, 100.0, 3600.0, 3) == 3700.0


def test_a_target_is_checkpointed_again_and_again(daemon: Icecored, sleeper: Sleepers) -> None:
    victim = sleeper()
    with daemon.client() as client:
        reply = client.call("Track", pid=victim.pid, name="job", interval=0.1)
        assert item(reply, "target", "pid") == victim.pid
        assert item(reply, "target", "interval") == 0.1
        assert item(reply, "target", "comm") == "sh"
        daemon.wait_for("job@3")
        target = target_named(client.call("List"), "job")
        assert item(target, "taken") in (3, 4, 5)
        assert item(target, "last", "name") == "job"
        assert item(target, "problem") is None
        client.call("Untrack", name="job")
        assert client.call("List")["targets"] == []
    assert "closed job" in daemon.output or daemon.wait_for("closed job")
    assert victim.is_running()


def test_a_slow_target_delays_no_other(daemon: Icecored, sleeper: Sleepers) -> None:
    with daemon.client() as client:
        client.call("Track", pid=sleeper().pid, name="slow-one", interval=0.1)
        with daemon.at_gate():
            client.call("Track", pid=sleeper().pid, name="quick", interval=0.1)
            daemon.wait_for("quick@5")
            assert target_named(client.call("List"), "slow-one")["state"] == "running"
            assert target_named(client.call("List"), "slow-one")["taken"] == 0
        daemon.wait_for("slow-one@1")
        with daemon.at_gate():
            client.call("List")


def test_forty_slow_targets_delay_no_other(daemon: Icecored, sleeper: Sleepers) -> None:
    """More than the threads that trio would share among them."""
    with daemon.client() as client:
        for number in range(45):
            client.call("Track", pid=sleeper().pid, name=f"slow-{number}", interval=100.0)
        with daemon.at_gate():
            client.call("Track", pid=sleeper().pid, name="quick", interval=0.1)
            daemon.wait_for("quick@3")


def test_one_target_is_never_checkpointed_twice_at_once(daemon: Icecored, sleeper: Sleepers) -> None:
    victim = sleeper()
    with daemon.client() as client, daemon.client() as other:
        client.call("Track", pid=victim.pid, name="slow-one", interval=100.0)
        with daemon.at_gate():
            with pytest.raises(Busy, match="held as slow-one"):
                client.call("Track", pid=victim.pid, name="another")
            with pytest.raises(Busy, match="slow-one is in use"):
                client.call("Track", pid=sleeper().pid, name="slow-one")
            with pytest.raises(Busy, match="slow-one is in use"):
                client.call("Checkpoint", pid=sleeper().pid, name="slow-one")
            with pytest.raises(UsageError, match="tracked as slow-one"):
                client.call("Checkpoint", pid=victim.pid, name="another")
            replies = other.call_more("Checkpoint", pid=victim.pid)  # waits for its turn
        daemon.wait_for("slow-one@1")
        first = next(replies)
        with daemon.at_gate():
            assert item(first, "progress", "phase") == "pre-copy"
        *_, last = replies
        assert item(last, "report", "id") == 2


def test_a_checkpoint_of_a_tracked_target_by_name(daemon: Icecored, sleeper: Sleepers) -> None:
    with daemon.client() as client:
        client.call("Track", pid=sleeper().pid, name="job", interval=1000.0)
        daemon.wait_for("job@1")
        assert item(client.call("Checkpoint", name="job"), "report", "id") == 2
        assert item(client.call("Checkpoint", name="job"), "report", "tracker") == "auto"


def test_a_checkpoint_of_any_process(daemon: Icecored, sleeper: Sleepers) -> None:
    victim = sleeper()
    with daemon.client() as client:
        report = client.call("Checkpoint", pid=victim.pid)["report"]
        assert item(report, "name") == f"sh-{victim.pid}"
        assert item(report, "tracker") == "auto"
        assert item(report, "tracker_reason") == "it is a fake"
        daemon.wait_for("closed sh-")
        listed = client.call("List")
        assert listed["targets"] == []
        assert listed["chains"] == [f"sh-{victim.pid}"]


def test_checkpoint_and_kill(daemon: Icecored, sleeper: Sleepers) -> None:
    victim = sleeper()
    with daemon.client() as client:
        client.call("Checkpoint", pid=victim.pid, name="last", kill=True)
    assert victim.wait() == -signal.SIGKILL


def test_exit_is_noticed_at_once(daemon: Icecored, sleeper: Sleepers) -> None:
    victim = sleeper()
    with daemon.client() as client:
        client.call("Track", pid=victim.pid, name="job", interval=10_000.0)
        daemon.wait_for("job@1")
        victim.kill()
        daemon.wait_for("closed job")  # long before the next checkpoint
        target = target_named(client.call("List"), "job")
        assert (target["state"], target["taken"], target["problem"]) == ("exited", 1, None)
        with pytest.raises(TargetGone):
            client.call("Checkpoint", name="job")
        with pytest.raises(NoSuchProcess):
            client.call("Checkpoint", pid=victim.pid)
        client.call("Track", pid=sleeper().pid, name="job")  # the name is free again
        daemon.wait_for("job@1")


def test_exit_during_a_checkpoint(daemon: Icecored, sleeper: Sleepers) -> None:
    victim = sleeper()
    with daemon.client() as client:
        client.call("Track", pid=victim.pid, name="slow-one", interval=1000.0)
        with daemon.at_gate():
            victim.kill()
            daemon.wait_for("slow-one: process .* has ended")
            assert target_named(client.call("List"), "slow-one")["state"] == "exited"
        daemon.wait_for("closed slow-one")


def test_failures_are_recorded_and_retried(daemon: Icecored, sleeper: Sleepers) -> None:
    victim = sleeper()
    with daemon.client() as client:
        client.call("Track", pid=victim.pid, name="failing-one", interval=0.1)
        daemon.wait_for("failing-one: checkpoint of pid .* failed: it holds a socket")
        daemon.wait_for("failing-one: checkpoint of pid .* failed: it holds a socket")
        target = target_named(client.call("List"), "failing-one")
        assert target["state"] in ("failing", "running")
        assert item(target, "problem", "error") == "CannotRestore"
        assert item(target, "problem", "message") == "it holds a socket"
        assert item(target, "last") is None
        with pytest.raises(CannotRestore, match="it holds a socket") as caught:
            client.call("Checkpoint", name="failing-one")
        assert caught.value.reasons == ("fd 7: a socket",)
    assert victim.is_running()


def test_a_bug_in_the_engine_costs_that_checkpoint_and_that_engine(daemon: Icecored, sleeper: Sleepers) -> None:
    with daemon.client() as client:
        client.call("Track", pid=sleeper().pid, name="bug", interval=1000.0)
        daemon.wait_for("bug@1")
        with pytest.raises(IcecoreError, match="ZeroDivisionError"):
            client.call("Checkpoint", name="bug")
        assert target_named(client.call("List"), "bug")["failures"] == 1
        assert item(client.call("Checkpoint", name="bug"), "report", "id") == 1  # of a new engine
        assert target_named(client.call("List"), "bug")["failures"] == 0
    daemon.stop()
    assert "Traceback" in daemon.output


def test_after_an_exec_it_goes_on(daemon: Icecored, sleeper: Sleepers) -> None:
    with daemon.client() as client:
        client.call("Track", pid=sleeper().pid, name="exec-one", interval=0.1)
        daemon.wait_for("exec-one@1")
        daemon.wait_for("executed another program")
        daemon.wait_for("exec-one@2")
        target = target_named(client.call("List"), "exec-one")
        assert (target["taken"], target["failures"]) == (2, 0)


def test_what_is_refused_leaves_no_trace(daemon: Icecored, sleeper: Sleepers) -> None:
    victim = sleeper()
    with daemon.client() as client:
        for _ in range(2):
            with pytest.raises(CannotRestore, match="it holds a socket"):
                client.call("Track", pid=victim.pid, name="refused-one")
        with pytest.raises(CannotRestore):
            client.call("Checkpoint", pid=victim.pid, name="refused-two")
        assert client.call("List") == {"targets": [], "chains": []}
        client.call("Track", pid=victim.pid, name="accepted")


def test_untracking_abandons_the_running_checkpoint(daemon: Icecored, sleeper: Sleepers) -> None:
    with daemon.client() as client, daemon.raw() as other:
        client.call("Track", pid=sleeper().pid, name="slow-one", interval=100.0)
        with daemon.at_gate():
            other.sendall(encode({"method": "io.icecore.Checkpoint.Untrack", "parameters": {"name": "slow-one"}}))
            daemon.wait_for("slow-one: let go of")
        assert other.recv(100) == b'{"parameters":{}}\0'
        with pytest.raises(NoSuchCheckpoint):
            client.call("Checkpoint", name="slow-one")
    daemon.stop()
    assert "slow-one@1" not in daemon.output
