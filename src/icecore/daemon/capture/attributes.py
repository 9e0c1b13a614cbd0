# SPDX-License-Identifier: Apache-2.0
"""What a thread or process knows of itself and /proc does not show: asked by injected calls."""

import struct
from dataclasses import dataclass

from icecore.daemon.capture.table import Answers, Questions
from icecore.kernel import prctl
from icecore.kernel.arch.x86_64 import SYS_brk, SYS_prctl, SYS_sigaltstack
from icecore.storage.records import AltStack

STACK_T = struct.Struct("=QIIQ")
"""stack_t: sp, flags, padding, size."""
SS_ONSTACK = 1
POINTER = struct.Struct("=Q")
INT = struct.Struct("=i")


@dataclass(frozen=True, slots=True)
class ThreadAttributes:
    """Of one thread."""

    altstack: AltStack
    clear_child_tid: int
    parent_death_signal: int


@dataclass(frozen=True, slots=True)
class ThreadQuestions:
    """Tickets of the calls that every thread is asked."""

    altstack: int
    tid_address: int
    parent_death_signal: int

    @classmethod
    def ask(cls, questions: Questions) -> "ThreadQuestions":
        """Put them on the list."""
        return cls(
            questions.ask("sigaltstack", SYS_sigaltstack, 0, None, size=STACK_T.size),
            questions.ask("prctl(PR_GET_TID_ADDRESS)", SYS_prctl, prctl.PR_GET_TID_ADDRESS, None, size=POINTER.size),
            questions.ask("prctl(PR_GET_PDEATHSIG)", SYS_prctl, prctl.PR_GET_PDEATHSIG, None, size=INT.size),
        )

    def read(self, answers: Answers) -> ThreadAttributes:
        """SS_ONSTACK only says where the thread was just now: it cannot be set, so it is not kept."""
        sp, flags, _, size = STACK_T.unpack(answers.data(self.altstack))
        return ThreadAttributes(
            AltStack(sp=sp, flags=flags & ~SS_ONSTACK, size=size),
            POINTER.unpack(answers.data(self.tid_address))[0],
            INT.unpack(answers.data(self.parent_death_signal))[0],
        )


@dataclass(frozen=True, slots=True)
class ProcessAttributes:
    """Of the process."""

    brk: int
    dumpable: int
    securebits: int
    child_subreaper: bool
    thp_disabled: int


@dataclass(frozen=True, slots=True)
class ProcessQuestions:
    """Tickets of the calls that only the leader is asked."""

    brk: int
    dumpable: int
    securebits: int
    child_subreaper: int
    thp_disabled: int

    @classmethod
    def ask(cls, questions: Questions) -> "ProcessQuestions":
        """Put them on the list."""
        return cls(
            questions.ask("brk", SYS_brk, 0),
            questions.ask("prctl(PR_GET_DUMPABLE)", SYS_prctl, prctl.PR_GET_DUMPABLE),
            questions.ask("prctl(PR_GET_SECUREBITS)", SYS_prctl, prctl.PR_GET_SECUREBITS),
            questions.ask(
                "prctl(PR_GET_CHILD_SUBREAPER)", SYS_prctl, prctl.PR_GET_CHILD_SUBREAPER, None, size=INT.size
            ),
            questions.ask("prctl(PR_GET_THP_DISABLE)", SYS_prctl, prctl.PR_GET_THP_DISABLE),
        )

    def read(self, answers: Answers) -> ProcessAttributes:
        """The answers."""
        return ProcessAttributes(
            answers.value(self.brk),
            answers.value(self.dumpable),
            answers.value(self.securebits),
            bool(INT.unpack(answers.data(self.child_subreaper))[0]),
            answers.value(self.thp_disabled),
        )
