# SPDX-License-Identifier: Apache-2.0
"""A thread that waits in a system call goes on waiting, or is told EINTR by the kernel's own rules (signal(7)).

The stop of a checkpoint is invisible, also to epoll_wait and sigtimedwait without a timeout, which the kernel itself
would end with EINTR at any stop. In a restored process a call that the kernel would resume from its restart block
(-ERESTART_RESTARTBLOCK: relative sleeps, poll, futex with a timeout) is EINTR; every other call is made again.
"""

from pathlib import Path

import pytest
from support.programs import c_program
from support.recording import Recording
from support.victim import Victim
from support.waiting import wait_until

LINKS = 6
RESTART_SYSCALL = 219

CALLS: dict[str, tuple[int, set[str], set[str]]] = {
    # name: (number of the call, its end in the victim that goes on, its end in the restored one), both after a release
    "nanosleep": (35, set(), {"-1 EINTR left=1"}),
    "clock_nanosleep": (230, set(), {"-1 EINTR left=1"}),
    "clock_nanosleep_absolute": (230, {"0 0"}, {"0 0"}),
    "futex": (202, {"0 0"}, {"0 0", "-1 EAGAIN"}),
    "futex_timeout": (202, {"0 0", "-1 EAGAIN"}, {"-1 EINTR"}),
    "poll": (7, {"1 0 revents=1"}, {"-1 EINTR revents=0"}),
    "poll_timeout": (7, {"1 0"}, {"-1 EINTR"}),
    "ppoll": (271, {"1 0 revents=1 left=1"}, {"1 0 revents=1 left=1"}),
    "select": (23, {"1 0 set=1 left=1"}, {"1 0 set=1 left=1"}),
    "pselect": (270, {"1 0 set=1"}, {"1 0 set=1"}),
    "epoll_wait": (232, {"1 0 data=1234567890abcdef"}, {"1 0 data=1234567890abcdef"}),
    "read": (0, {"7 0 bytes=wake up"}, {"7 0 bytes=wake up"}),
    "read_eventfd": (0, {"8 0 value=42"}, {"8 0 value=42"}),
    "sigsuspend": (130, {"-1 EINTR handled=10 mask=same"}, {"-1 EINTR handled=10 mask=same"}),
    "pause": (34, {"-1 EINTR handled=10"}, {"-1 EINTR handled=10"}),
    "sigtimedwait": (128, {"12 0 signo=12"}, {"12 0 signo=12"}),
}
ENDS_BY_ITSELF = {"clock_nanosleep_absolute"}


def _is_in_call(victim: Victim, tid: int, number: int) -> bool:
    """Asleep in that call, or in the one by which the kernel resumes it."""
    text = Path(f"/proc/{victim.pid}/task/{tid}/syscall").read_text(encoding="ascii")
    return text.split()[0] in (str(number), str(RESTART_SYSCALL))


def _ending(victim: Victim, name: str) -> str:
    victim.expect("released", "release")
    return victim.expect(name, "result").strip()


@pytest.mark.parametrize("where", ["thread", "leader"])
@pytest.mark.parametrize("name", CALLS)
def test_blocked_call(name: str, where: str, tmp_path: Path) -> None:
    """Recorded as a keyframe and five deltas while the call lasts; the victim itself notices nothing."""
    number, live, restored = CALLS[name]
    with Victim.start([c_program("blocked"), name, where]) as victim:
        tid = int(victim.greeting.split()[-1])
        wait_until(lambda: _is_in_call(victim, tid, number), f"thread {tid} never got into {name}")
        with Recording(victim, tmp_path / "store") as recording:
            for _ in range(LINKS):
                recording.checkpoint_and_compare()
                victim.expect("ok", "check")
                if name not in ENDS_BY_ITSELF:
                    wait_until(lambda: _is_in_call(victim, tid, number), f"{name} did not go on")
        if live:
            assert _ending(victim, name) in live
        victim.kill()
        for link in reversed(recording.links):
            with recording.restored(link) as again:
                assert _ending(again, name) in restored
                again.tell("quit")
                assert again.wait() == 7
