# SPDX-License-Identifier: Apache-2.0
"""What this kernel, and this caller's rights on it, can do for checkpoints: each ability found by using it."""

from collections.abc import Callable
from dataclasses import dataclass

from icecore.daemon import probes
from icecore.daemon.probes import Lacking
from icecore.errors import IcecoreError


@dataclass(frozen=True, slots=True)
class Ability:
    """One thing that was tried."""

    name: str
    present: bool
    detail: str
    """What was found, or the error of the attempt."""
    needed_for: str


def probe_all() -> list[Ability]:
    """Try everything; takes some milliseconds and touches nothing but ourselves and a child of ours."""
    return [_try(name, probe, needed_for) for name, (probe, needed_for) in PROBES.items()]


def _try(name: str, probe: Callable[[], str], needed_for: str) -> Ability:
    try:
        return Ability(name, True, probe(), needed_for)
    except OSError as error:
        return Ability(name, False, error.strerror or str(error), needed_for)
    except (IcecoreError, Lacking) as error:
        return Ability(name, False, str(error), needed_for)


PROBES: dict[str, tuple[Callable[[], str], str]] = {
    "ptrace": (probes.probe_ptrace, "every checkpoint and restore"),
    "process_vm_readv": (probes.probe_process_vm, "every checkpoint"),
    "injection": (probes.probe_injection, "capturing state; write-protect tracking"),
    "seccomp suspension": (probes.probe_suspend_seccomp, "targets that run under a seccomp filter"),
    "PAGEMAP_SCAN": (
        probes.probe_pagemap_scan,
        "short pauses: without it the entries of pagemap are read, 40 times slower",
    ),
    "PAGEMAP_SCAN guard": (probes.probe_guard_category, "targets that use guard pages"),
    "guard pages": (probes.probe_guard, "restoring targets that use guard pages"),
    "userfaultfd": (probes.probe_userfaultfd, "write-protect tracking"),
    "write protection": (
        probes.probe_write_protect,
        "write-protect tracking: without it every page is read and compared",
    ),
    "soft-dirty": (probes.probe_soft_dirty, "soft-dirty tracking, for kernels without write protection"),
    "map_files": (probes.probe_map_files, "shared anonymous memory: without it all of a mapping is read"),
    "CAP_CHECKPOINT_RESTORE": (probes.probe_capability, "restoring with the same pid and /proc/PID/exe"),
    "clone3 set_tid": (probes.probe_set_tid, "restoring with the same pid"),
}
"""By name: how to try it, and what it is needed for."""
