# SPDX-License-Identifier: Apache-2.0
"""What stands in the way of restoring a process, found while it runs, all at once, each with its remedy.

The answer may be out of date a moment later: ``capture`` looks again at what can have changed while it is frozen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from icecore.daemon.check.descriptors import read_descriptors
from icecore.daemon.check.mappings import FileChecks, SharedKey, VmFlags, refuse_mappings, shared_objects
from icecore.daemon.check.process import refuse_process
from icecore.daemon.check.reason import REMEDIES, Reason, cannot_restore
from icecore.daemon.check.streams import Outside
from icecore.daemon.check.threads import read_statuses, refuse_threads
from icecore.daemon.target import Target
from icecore.errors import TargetGone
from icecore.kernel import procfs

__all__ = ["REMEDIES", "Findings", "Reason", "cannot_restore", "check", "examine"]


@dataclass(frozen=True, slots=True)
class Findings:
    """The obstacles, and what was found out on the way that a frozen look need not find out again."""

    reasons: list[Reason]
    outside: Outside
    """Who else holds each pipe."""
    shared_memory: frozenset[SharedKey]
    """The shared memory objects that the search for other holders covered."""

    def confirming(self, earlier: "Findings") -> "Findings":
        """Only the obstacles that an earlier look saw too.

        The target runs: an fd that is closed between two reads of one look must not look like an obstacle.
        """
        return replace(self, reasons=[reason for reason in self.reasons if reason in earlier.reasons])


def check(target: Target, vmas: Sequence[procfs.Vma] | None = None, vm_flags: VmFlags | None = None) -> list[Reason]:
    """Every obstacle; empty if the target can be restored as it is now.

    ``vmas`` and ``vm_flags`` spare reading /proc/PID/maps and smaps again to those who have them (smaps takes 10 ms for
    each GiB of the target). Raises TargetGone if it ends meanwhile.
    """
    return examine(target, vmas, vm_flags).reasons


def examine(target: Target, vmas: Sequence[procfs.Vma] | None = None, vm_flags: VmFlags | None = None) -> Findings:
    """``check``, with what else was learnt."""
    try:
        vmas = procfs.read_maps(target.pid) if vmas is None else vmas
        vm_flags = procfs.read_vm_flags(target.pid) if vm_flags is None else vm_flags
        findings = look(target.pid, vmas, vm_flags)
        if findings.reasons:
            findings = look(target.pid, vmas, vm_flags).confirming(findings)
    except (FileNotFoundError, ProcessLookupError):
        raise TargetGone(f"{target.label} has ended") from None
    target.verify()
    return findings


def look(pid: int, vmas: Sequence[procfs.Vma], vm_flags: VmFlags) -> Findings:
    descriptors = read_descriptors(pid, {})
    reasons = [
        *refuse_process(pid, procfs.read_status(pid)),
        *refuse_threads(pid, read_statuses(pid)),
        *descriptors.reasons,
        *refuse_mappings(pid, vmas, vm_flags, FileChecks()),
    ]
    return Findings(reasons, descriptors.outside, frozenset(shared_objects(vmas)))
