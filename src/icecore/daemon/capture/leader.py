# SPDX-License-Identifier: Apache-2.0
"""What only the process itself can tell, asked of its leader by one table of injected calls."""

from dataclasses import dataclass

from icecore.daemon.capture.attributes import ProcessAttributes, ProcessQuestions, ThreadAttributes, ThreadQuestions
from icecore.daemon.capture.signals import actions, ask_actions, ask_timers, signals_of_interest, timers
from icecore.daemon.capture.table import Questions
from icecore.inject import Frozen
from icecore.kernel.procfs import Status
from icecore.storage.records import IntervalTimer, SignalAction


@dataclass(frozen=True, slots=True)
class LeaderAnswers:
    """Of the leader as a thread, and of the process."""

    thread: ThreadAttributes
    process: ProcessAttributes
    actions: tuple[SignalAction, ...]
    timers: tuple[IntervalTimer, ...]


def ask_leader(frozen: Frozen, status: Status) -> LeaderAnswers:
    """All of it in one go: each trip into the target costs more than all calls of one."""
    questions = Questions()
    thread, process = ThreadQuestions.ask(questions), ProcessQuestions.ask(questions)
    action_tickets = ask_actions(questions, signals_of_interest(status))
    timer_tickets = ask_timers(questions)
    answers = questions.put(frozen, frozen.leader)
    return LeaderAnswers(
        thread.read(answers),
        process.read(answers),
        tuple(actions(answers, action_tickets)),
        tuple(timers(answers, timer_tickets)),
    )
