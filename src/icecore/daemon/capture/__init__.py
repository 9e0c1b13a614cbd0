# SPDX-License-Identifier: Apache-2.0
"""The state of a frozen process, all but its pages, as one record.

Everything here runs while the target stands still: few system calls, nothing that is slow in proportion to its memory.
What could be found out before is brought along in ``Prepared``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from icecore.daemon.capture.files import open_files
from icecore.daemon.capture.mappings import capture_mappings, shared_objects
from icecore.daemon.capture.pipes import capture_pipes
from icecore.daemon.capture.process import credentials, limits, machine, mm_fields, vdso_digest
from icecore.daemon.capture.questions import Asked, ask
from icecore.daemon.capture.threads import Stopped, capture_thread, refuse_dispatch, stopped_threads
from icecore.daemon.check import Findings, Reason, cannot_restore, examine
from icecore.daemon.check.descriptors import Description, read_descriptors
from icecore.daemon.check.mappings import FileChecks, VmFlags, refuse_mappings
from icecore.daemon.check.process import refuse_changing
from icecore.daemon.check.threads import refuse_threads
from icecore.daemon.target import Target
from icecore.errors import TargetGone
from icecore.inject import Frozen
from icecore.kernel import procfs
from icecore.kernel.procfs import Status, Vma
from icecore.storage.records import Limit, Process, Thread

__all__ = ["Captured", "Prepared", "capture", "capture_process", "prepare"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was found out before the freeze."""

    findings: Findings
    limits: tuple[Limit, ...] | None = None
    """Anybody may change them at any moment, frozen or not (prlimit): as good a moment as another."""


NOTHING = Prepared(Findings([], {}, frozenset()))


def prepare(target: Target, vmas: Sequence[Vma] | None = None, vm_flags: VmFlags | None = None) -> Prepared:
    """Check the target, and warm up what a capture needs. Raises CannotRestore with every obstacle, and TargetGone."""
    findings = examine(target, vmas, vm_flags)
    if findings.reasons:
        raise cannot_restore(target.label, findings.reasons)
    vdso_digest()
    machine()
    return Prepared(findings, limits(target.pid))


def capture_process(frozen: Frozen, vmas: Sequence[Vma], vm_flags: VmFlags, prepared: Prepared = NOTHING) -> Process:
    """``capture`` and ``Captured.complete`` in one, for those who need not care how long the target stands still."""
    return capture(frozen, vmas, prepared).complete(vm_flags)


@dataclass(frozen=True, slots=True)
class Captured:
    """What had to be taken from the target while it was frozen; ``complete`` it once it runs again."""

    partial: Process
    vmas: Sequence[Vma]
    prepared: Prepared

    def complete(self, vm_flags: VmFlags) -> Process:
        """With the mappings, which have been listed already: only the files behind them are looked at.

        ``vm_flags`` are of shortly before the freeze. Raises CannotRestore for mappings that the check did not see:
        before killing the target, do this.
        """
        pid, files = self.partial.pid, FileChecks()
        known = self.prepared.findings.shared_memory
        if reasons := refuse_mappings(pid, self.vmas, vm_flags, files, known):
            raise cannot_restore(label(pid, self.partial.comm), reasons)
        return replace(self.partial, mappings=capture_mappings(self.vmas, vm_flags, files))


def capture(frozen: Frozen, vmas: Sequence[Vma], prepared: Prepared = NOTHING) -> Captured:
    """Take the state of a frozen target, all but its pages; the target is left as it was found.

    ``vmas`` are of this freeze. Raises CannotRestore if the target has come to hold what cannot be restored since it
    was checked, and TargetGone if somebody kills it.
    """
    try:
        return Captured(capture_partial(frozen, vmas, prepared), vmas, prepared)
    except (FileNotFoundError, ProcessLookupError):
        raise TargetGone(f"process {frozen.pid} was killed while it was frozen") from None


def label(pid: int, comm: str) -> str:
    return f"process {pid} ({comm})"


def capture_partial(frozen: Frozen, vmas: Sequence[Vma], prepared: Prepared) -> Process:
    pid = frozen.pid
    # Before anything is injected: an interrupted call shows as the kernel left it only until then.
    stopped = stopped_threads(frozen)
    stat, status = procfs.read_stat(pid), procfs.parse_status(frozen.leader.status)
    reasons, descriptions = look_again(frozen, status, prepared.findings)
    if reasons:
        frozen.leader.registers()  # ESRCH if somebody has killed it: ended threads are then no obstacle but the end
        raise cannot_restore(label(pid, stat.comm), reasons)
    asked = ask(frozen, status)
    return Process(
        pid=pid,
        start_time=stat.start_time,
        exe=procfs.exe(pid),
        comm=stat.comm,
        cwd=procfs.cwd(pid),
        umask=status.umask,
        personality=procfs.read_personality(pid),
        session=stat.session,
        process_group=stat.pgrp,
        dumpable=asked.process.dumpable,
        credentials=credentials(status, asked.process.securebits),
        limits=limits(pid) if prepared.limits is None else prepared.limits,
        mm=mm_fields(pid, stat, asked.process.brk),
        mappings=(),
        shared_objects=tuple(shared_objects(pid, vmas)),
        threads=capture_threads(frozen, stopped, asked),
        actions=asked.actions,
        pending=tuple(frozen.leader.pending(shared=True)),
        timers=asked.timers,
        files=tuple(open_files(descriptions)),
        pipes=tuple(capture_pipes(pid, descriptions)),
        vdso_digest=vdso_digest(),
        kernel_release=machine().release,
        machine=machine().machine,
        host=machine().nodename,
        child_subreaper=asked.process.child_subreaper,
        thp_disabled=asked.process.thp_disabled,
    )


def look_again(frozen: Frozen, status: Status, known: Findings) -> tuple[list[Reason], tuple[Description, ...]]:
    """Obstacles now, mappings apart; /proc is searched for holders only of pipes that are new since the check."""
    pid = frozen.pid
    descriptors = read_descriptors(pid, known.outside)
    reasons = [
        *refuse_changing(pid, status),
        *refuse_threads(pid, [(tracee.tid, tracee.status) for tracee in frozen.threads]),
        *refuse_dispatch(frozen),
        *descriptors.reasons,
    ]
    return reasons, descriptors.descriptions


def capture_threads(frozen: Frozen, stopped: list[Stopped], asked: Asked) -> tuple[Thread, ...]:
    each = zip(frozen.threads, stopped, asked.threads, strict=True)
    return tuple(capture_thread(frozen.pid, tracee, stop, answers) for tracee, stop, answers in each)
