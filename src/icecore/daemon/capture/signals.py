# SPDX-License-Identifier: Apache-2.0
"""Signal actions and interval timers of a process, asked of the process itself."""

import signal
import struct
from collections.abc import Iterable, Iterator

from icecore.daemon.capture.table import Answers, Questions
from icecore.kernel.arch.x86_64 import SYS_getitimer, SYS_rt_sigaction
from icecore.kernel.procfs import Status
from icecore.storage.records import IntervalTimer, SignalAction

SIGSET_SIZE = 8
SIGACTION = struct.Struct("=4Q")
"""struct kernel_sigaction of x86-64: handler, flags, restorer, mask."""
ITIMERVAL = struct.Struct("=4q")
"""struct itimerval: interval seconds and microseconds, value seconds and microseconds."""
TIMERS = (0, 1, 2)
"""ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF."""


def signals_of_interest(status: Status) -> list[int]:
    """Those that are caught or ignored; and SIGCHLD, whose flags mean something even with the default action."""
    mask = status.sig_cgt | status.sig_ign | 1 << (signal.SIGCHLD - 1)
    return [number for number in range(1, 65) if mask >> (number - 1) & 1]


def ask_actions(questions: Questions, signals: Iterable[int]) -> dict[int, int]:
    """The ticket for each signal."""
    return {
        number: questions.ask("rt_sigaction", SYS_rt_sigaction, number, 0, None, SIGSET_SIZE, size=SIGACTION.size)
        for number in signals
    }


def actions(answers: Answers, tickets: dict[int, int]) -> Iterator[SignalAction]:
    """Every action that is not simply the default one."""
    for number, ticket in tickets.items():
        handler, flags, restorer, mask = SIGACTION.unpack(answers.data(ticket))
        if handler or flags:
            yield SignalAction(signal=number, handler=handler, flags=flags, restorer=restorer, mask=mask)


def ask_timers(questions: Questions) -> dict[int, int]:
    """The ticket for each kind of interval timer."""
    return {which: questions.ask("getitimer", SYS_getitimer, which, None, size=ITIMERVAL.size) for which in TIMERS}


def timers(answers: Answers, tickets: dict[int, int]) -> Iterator[IntervalTimer]:
    """Those that run."""
    for which, ticket in tickets.items():
        interval_s, interval_us, value_s, value_us = ITIMERVAL.unpack(answers.data(ticket))
        value = value_s * 1_000_000 + value_us
        if value:
            yield IntervalTimer(which=which, value_us=value, interval_us=interval_s * 1_000_000 + interval_us)
