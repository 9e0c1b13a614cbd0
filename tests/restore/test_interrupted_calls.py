# SPDX-License-Identifier: Apache-2.0
"""A system call that the checkpoint interrupted: made again, or EINTR, as signal(7) has it for each."""

import time
from pathlib import Path

import pytest
from support.programs import c_program
from support.snapshot import take
from support.victim import Victim

ENDINGS = {
    "nanosleep": {"-1 EINTR left=1"},
    "clock_nanosleep": {"-1 EINTR left=1"},
    "clock_nanosleep_absolute": {"0 0"},
    "futex": {"0 0", "-1 EAGAIN"},
    "futex_timeout": {"-1 EINTR"},
    "poll": {"-1 EINTR revents=0"},
    "ppoll": {"1 0 revents=1 left=1"},
    "pselect": {"1 0 set=1"},
    "epoll_wait": {"1 0 data=1234567890abcdef"},
    "read": {"7 0 bytes=wake up"},
    "sigsuspend": {"-1 EINTR handled=10 mask=same"},
    "pause": {"-1 EINTR handled=10"},
    "sigtimedwait": {"12 0 signo=12"},
}
"""What the restored call returns once it was released, by its name in ``blocked.c``."""


@pytest.mark.parametrize("where", ["thread", "leader"])
@pytest.mark.parametrize("name", ENDINGS)
def test_a_call_goes_on(name: str, where: str) -> None:
    with Victim.start([c_program("blocked"), name, where]) as victim:
        _wait_until_blocked(victim.pid)
        snapshot = take(victim.pid)
        victim.wait()
        with Victim.restored_from(snapshot) as again:
            again.expect("released", "release")
            assert again.expect(name, "result").strip() in ENDINGS[name]
            again.tell("quit")
            assert again.wait() == 7


def _wait_until_blocked(pid: int) -> None:
    """Until every thread sleeps: the one in the call, and the one that reads commands."""
    deadline = time.monotonic() + 20
    while any(" S " not in (task / "stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()):
        assert time.monotonic() < deadline
