# SPDX-License-Identifier: Apache-2.0
"""A capture as the engine makes it, for tests."""

import os
from collections.abc import Callable
from pathlib import Path

from support.victim import Victim

from icecore.daemon.capture import Captured, capture, prepare
from icecore.daemon.target import Target
from icecore.inject import freeze
from icecore.kernel.procfs import read_maps, read_vm_flags
from icecore.storage.records import (
    OpenFile,
    Process,
)


def captured(victim: Victim, between: Callable[[], object] = lambda: None) -> Process:
    """A capture as the engine makes it; ``between`` happens after the check, before the freeze."""
    with Target.open(victim.pid) as target:
        flags = read_vm_flags(target.pid)
        prepared = prepare(target, read_maps(target.pid), flags)
        between()
        with freeze(target.pid) as frozen:
            part = capture(frozen, read_maps(target.pid), prepared)
    assert isinstance(part, Captured)
    return part.complete(flags)


def wait_for_command(victim: Victim) -> None:
    """Until the victim sleeps in read(0, ...): it does so soon after its answer."""
    while not Path(f"/proc/{victim.pid}/syscall").read_text().startswith("0 0x0 "):
        os.sched_yield()


def file_of(process: Process, fd: int) -> OpenFile:
    return next(one for one in process.files if fd in one.fds)
