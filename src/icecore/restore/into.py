# SPDX-License-Identifier: Apache-2.0
"""The memory of a checkpoint into a process that runs: all of what was asked for, or nothing.

The process is frozen meanwhile. First everything is compared, then the pages that differ are written, and put back
should the kernel refuse one of them half-way. Registers, files and all else stay as they are: whether the program can
go on from its old memory is for the caller to know.
"""

import os
import select
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from icecore.errors import Busy, NoSuchProcess, NotPermitted, TargetGone, UsageError
from icecore.inject import freeze
from icecore.kernel.pidfd import pidfd_open
from icecore.kernel.procfs import read_maps, read_stat
from icecore.restore.into_choice import Ranges, choose
from icecore.restore.into_match import require_match, require_no_faults_of_its_own
from icecore.restore.into_pages import Overlay
from icecore.restore.source import RangeSource
from icecore.storage.records import Mapping

PATIENCE = 1.0
"""Seconds for which a tracer is waited for: icecored holds a process for some milliseconds."""
BETWEEN_MS = 20


@dataclass(frozen=True, slots=True)
class Written:
    """What was done."""

    pid: int
    pages: int
    """Those that differed, and were written."""
    pause_us: int
    """Microseconds for which the process did not run."""


def restore_into(reader: RangeSource, pid: int, ranges: Ranges = ()) -> Written:
    """Write the ranges of a checkpoint into process ``pid``: its own, or one with the same mappings.

    ``ranges``: some of those that it holds; empty: all of them, which a checkpoint of a whole process does not accept.
    Prerequisites: every mapping is there, as large, of the same kind (file mappings of the same unchanged file), and
    writable where it was; the right to trace the process, and nobody else who does.

    On success: in the ranges, every page reads as it did at the checkpoint; pages of zeros and of files too.
    On failure (UsageError, NoSuchProcess, NotPermitted, Busy, CannotRestore, StoreCorrupt, TargetGone): the process
    goes on as if nothing had happened.
    """
    wanted = choose(reader, ranges)
    if pid == os.getpid():
        raise UsageError(f"process {pid} is icecore itself", "name another process")
    pidfd = _open(pid)
    try:
        require_match(pid, wanted, read_maps(pid))
        require_no_faults_of_its_own(pid, wanted)
        # A thread of its own: when it ends, whatever happened in it, the kernel lets go of every thread it traced.
        with ThreadPoolExecutor(1, "icecore-restore-into") as thread:
            return thread.submit(_write, reader, pid, pidfd, wanted).result()
    except (ProcessLookupError, FileNotFoundError):
        raise TargetGone(f"process {pid} has ended") from None
    except PermissionError:
        raise _not_permitted(pid) from None
    finally:
        os.close(pidfd)


def _open(pid: int) -> int:
    """A pidfd of a process whose memory we may write."""
    try:
        pidfd = pidfd_open(pid)
        state = read_stat(pid).state
    except OSError:
        raise NoSuchProcess(f"no process has the pid {pid}", "`ps -e` lists those that exist") from None
    if state in ("Z", "X"):
        os.close(pidfd)
        raise NoSuchProcess(f"process {pid} is a zombie: it has ended", "nothing is left of it")
    return pidfd


def _not_permitted(pid: int) -> NotPermitted:
    return NotPermitted(f"the kernel does not let us write the memory of process {pid}", "run as its owner or as root")


def _write(reader: RangeSource, pid: int, pidfd: int, wanted: tuple[Mapping, ...]) -> Written:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with freeze(pid) as frozen:
                if _has_ended(pidfd):
                    raise TargetGone(f"process {pid} has ended")
                vmas = read_maps(pid)
                require_match(pid, wanted, vmas)
                with Overlay(pid, reader, wanted, vmas) as overlay:
                    overlay.compare()
                    overlay.write()
            return Written(pid, overlay.differing, frozen.pause_us)
        except Busy:
            if time.monotonic() >= deadline:
                raise
            _has_ended(pidfd, BETWEEN_MS)


def _has_ended(pidfd: int, patience_ms: int = 0) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(patience_ms))
