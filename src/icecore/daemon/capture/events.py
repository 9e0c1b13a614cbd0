# SPDX-License-Identifier: Apache-2.0
"""eventfd, epoll, timerfd and signalfd: fdinfo tells all of their state (proc_pid_fdinfo(5))."""

import re

from icecore.daemon.check.epoll import watches
from icecore.daemon.check.fds import Fd
from icecore.storage.records import Epoll, EpollTarget, EventFd, SignalFd, TimerFd

NANOSECONDS = 1_000_000_000
PAIR = re.compile(r"\((-?\d+), (\d+)\)")


def eventfd(fd: Fd) -> EventFd:
    """``eventfd-semaphore`` is shown since Linux 6.5; before, a semaphore looks like any other eventfd."""
    values = fd.values()
    return EventFd(
        count=int(values["eventfd-count"], 16),
        flags=fd.flags,
        semaphore=values.get("eventfd-semaphore", "0") == "1",
    )


def epoll(fd: Fd) -> Epoll:
    """Targets in the order in which the kernel keeps them."""
    targets = tuple(EpollTarget(fd=one.fd, events=one.events, data=one.data) for one in watches(fd))
    return Epoll(flags=fd.flags, targets=targets)


def timerfd(fd: Fd) -> TimerFd:
    """``it_value`` is what remains, also of an absolute timer; ``settime flags`` is octal."""
    values = fd.values()
    return TimerFd(
        flags=fd.flags,
        clock=int(values["clockid"]),
        ticks=int(values["ticks"]),
        settime_flags=int(values["settime flags"], 8),
        value_ns=nanoseconds(values["it_value"]),
        interval_ns=nanoseconds(values["it_interval"]),
    )


def nanoseconds(text: str) -> int:
    """``(seconds, nanoseconds)``."""
    match = PAIR.fullmatch(text)
    if match is None:
        raise ValueError(f"not a time of fdinfo: {text!r}")
    return int(match[1]) * NANOSECONDS + int(match[2])


def signalfd(fd: Fd) -> SignalFd:
    """The mask in hexadecimal, bit n-1 for signal n."""
    return SignalFd(flags=fd.flags, mask=int(fd.values()["sigmask"], 16))
