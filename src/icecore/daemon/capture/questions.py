# SPDX-License-Identifier: Apache-2.0
"""What only the process itself can tell, asked of each of its threads by one table of injected calls."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from icecore.daemon.capture.attributes import ProcessAttributes, ProcessQuestions, ThreadAttributes, ThreadQuestions
from icecore.daemon.capture.signals import actions, ask_actions, ask_timers, signals_of_interest, timers
from icecore.daemon.capture.table import Answers, Questions
from icecore.inject import Frozen, run_tables
from icecore.kernel.procfs import Status
from icecore.storage.records import IntervalTimer, SignalAction


@dataclass(frozen=True, slots=True)
class Asked:
    """Of every thread, the leader first, and of the process."""

    threads: Sequence[ThreadAttributes]
    process: ProcessAttributes
    actions: tuple[SignalAction, ...]
    timers: tuple[IntervalTimer, ...]


class Lists:
    """The questions to the leader of a process with actions for ``signals``, and to its other threads: made once."""

    def __init__(self, signals: tuple[int, ...]) -> None:
        self.leader, self.other = Questions(), Questions()
        self.thread = ThreadQuestions.ask(self.leader)
        ThreadQuestions.ask(self.other)  # first in both lists: the tickets are the same
        self.process = ProcessQuestions.ask(self.leader)
        self.actions = ask_actions(self.leader, signals)
        self.timers = ask_timers(self.leader)
        self.leader_table, self.other_table = self.leader.table(), self.other.table()


lists = lru_cache(maxsize=64)(Lists)
"""By the signals of interest: a program settles on them early, and laying tables out takes time."""


def ask(frozen: Frozen, status: Status) -> Asked:
    """All of it in one go: each trip into the target costs more than all calls of one."""
    asked = lists(tuple(signals_of_interest(status)))
    others = [(tracee, asked.other_table) for tracee in frozen.threads[1:]]
    first, *rest = run_tables(frozen, [(frozen.leader, asked.leader_table), *others])
    answers = Answers(asked.leader, first)
    return Asked(
        [asked.thread.read(answers), *(asked.thread.read(Answers(asked.other, one)) for one in rest)],
        asked.process.read(answers),
        tuple(actions(answers, asked.actions)),
        tuple(timers(answers, asked.timers)),
    )
