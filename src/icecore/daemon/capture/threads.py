# SPDX-License-Identifier: Apache-2.0
"""The threads: registers and what else ptrace shows from outside, and what each answered."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from icecore.daemon.capture.attributes import ThreadAttributes
from icecore.daemon.check import Reason
from icecore.inject import Frozen, Tracee
from icecore.kernel import procfs, ptrace
from icecore.kernel.futex import get_robust_list
from icecore.kernel.ptrace import RseqConfiguration
from icecore.storage.records import Rseq, Thread


@dataclass(frozen=True, slots=True)
class Stopped:
    """What must be read of a stopped thread before anything is injected anywhere."""

    registers: bytes
    rseq: RseqConfiguration


def stopped_threads(frozen: Frozen) -> list[Stopped]:
    """The registers of the stop, raw: what becomes of an interrupted call or sequence is the restorer's to decide."""
    return [Stopped(tracee.registers().pack(), tracee.rseq()) for tracee in frozen.threads]


def capture_thread(pid: int, tracee: Tracee, stopped: Stopped, asked: ThreadAttributes) -> Thread:
    """One stopped thread, which has been asked already."""
    head, length = get_robust_list(tracee.tid)
    return Thread(
        tid=tracee.tid,
        name=thread_name(pid, tracee.tid),
        registers=stopped.registers,
        xstate=tracee.xstate(),
        sigmask=tracee.sigmask(),
        altstack=asked.altstack,
        robust_list=head,
        robust_list_len=length,
        clear_child_tid=asked.clear_child_tid,
        rseq=rseq_record(stopped.rseq),
        pending=tuple(tracee.pending(shared=False)),
        parent_death_signal=asked.parent_death_signal,
    )


def thread_name(pid: int, tid: int) -> str:
    """comm, as prctl(PR_SET_NAME) gave it."""
    return procfs.read_text(pid, f"task/{tid}/comm").removesuffix("\n")


def rseq_record(rseq: RseqConfiguration) -> Rseq | None:
    if not rseq.address:
        return None
    return Rseq(address=rseq.address, size=rseq.size, signature=rseq.signature, flags=rseq.flags)


def refuse_dispatch(frozen: Frozen) -> Iterator[Reason]:
    """Syscall user dispatch shows only to a tracer; kernels before 6.4 cannot tell (EIO)."""
    for tracee in frozen.threads:
        with suppress(OSError):
            if ptrace.syscall_user_dispatch(tracee.tid):
                yield Reason("syscall-dispatch", f"thread {tracee.tid}", "has its system calls dispatched to itself")
