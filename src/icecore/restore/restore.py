# SPDX-License-Identifier: Apache-2.0
"""A checkpoint becomes a process again, all of it or nothing."""

from collections.abc import Callable
from dataclasses import dataclass

from icecore.errors import CannotRestore, IcecoreError, TargetGone
from icecore.kernel.arch.x86_64 import SYS_munmap
from icecore.restore import fill, memory, precheck, process, signals, threads, vdso
from icecore.restore.calls import Calls
from icecore.restore.files import Files
from icecore.restore.launch import launch
from icecore.restore.runner import WORK_SIZE
from icecore.restore.source import PageSource
from icecore.restore.stub import Stub

Streams = tuple[int, int, int]
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Restored:
    """A running process, a child of ours: the caller waits for it, and closes ``pidfd``."""

    pid: int
    pidfd: int


def _silent(step: str) -> None:
    del step


def restore(
    reader: PageSource,
    *,
    stdio: Streams = (0, 1, 2),
    detach_session: bool = False,
    progress: Progress = _silent,
) -> Restored:
    """Bring back the process of a checkpoint under its old pid, in the caller's namespaces.

    Prerequisites: its pid and thread ids are free; its files are there, mapped ones unchanged; the right to choose a
    pid (CAP_CHECKPOINT_RESTORE). ``stdio``: what it gets for standard streams that led outside. ``detach_session``: it
    becomes the leader of a new session. ``progress`` is told each step before it begins.

    On success: it runs, as a child of the calling thread (a parent death signal comes when that thread ends), in the
    caller's session and process group unless it led its own.
    On failure (Busy, NotPermitted, CannotRestore, StoreCorrupt): nothing of it exists.
    """
    making = Making(reader, stdio, progress, detach_session=detach_session)
    try:
        return making.run()
    except IcecoreError as error:
        if isinstance(error, TargetGone):
            raise making.failure(error) from error
        raise
    except OSError as error:
        raise making.failure(error) from error


class Making:
    """The steps, in their order."""

    def __init__(self, reader: PageSource, stdio: Streams, progress: Progress, *, detach_session: bool) -> None:
        self._reader = reader
        self._process = reader.process
        self._stdio = stdio
        self._progress = progress
        self._detach_session = detach_session
        self._step = ""

    def failure(self, error: Exception) -> CannotRestore:
        """An error of the kernel's, with what was being done."""
        return CannotRestore(f"restoring process {self._process.pid} failed at {self._step}: {error}")

    def _begin(self, step: str) -> None:
        self._step = step
        self._progress(step)

    def run(self) -> Restored:
        """Everything; whatever is raised, the half-made process is gone."""
        self._begin("checks")
        precheck.check(self._process)
        self._begin("launch")
        taken = [(m.start, m.end) for m in self._process.mappings]
        launched = launch(self._process.pid, (t.tid for t in self._process.threads), taken, self._stdio)
        stub = launched.stub
        try:
            self._build(stub, launched.streams)
            self._begin("release")
            stub.release()
        except BaseException:
            stub.kill()
            raise
        return Restored(stub.pid, stub.pidfd)

    def _build(self, stub: Stub, streams: Streams) -> None:
        files = self._make_memory(stub, streams)
        self._begin("files")
        files.restore()
        self._begin("threads")
        threads.make_threads(stub, self._process)
        self._begin("signals")
        self._set_actions_and_timers(stub)
        process.set_limits(stub.pid, self._process.limits)
        self._begin("credentials")
        threads.set_up_threads(stub, self._process)
        self._finish(stub)

    def _make_memory(self, stub: Stub, streams: Streams) -> Files:
        self._begin("address space")
        files = Files(stub, self._process, streams)
        mappings = self._process.mappings
        calls = Calls()
        process.set_session(calls, self._process, own_session=self._detach_session)
        process.set_huge_pages(calls, self._process)
        stub.run(calls)
        vdso.clear(stub, mappings)
        filled = fill.to_fill(self._reader, mappings)
        memory.map_all(stub, files.fds, mappings, self._process.shared_objects, filled)
        self._begin("memory")
        fill.fill(stub.pid, self._reader, mappings)
        self._begin("protection")
        memory.finish(stub, mappings, self._reader.guard, filled)
        calls = Calls()
        process.set_mm(stub, calls, files.fds, self._process)
        process.set_surroundings(calls, self._process)
        stub.run(calls)
        return files

    def _set_actions_and_timers(self, stub: Stub) -> None:
        calls = Calls()
        signals.set_actions(calls, self._process)
        process.set_timers(calls, self._process)
        stub.run(calls)

    def _finish(self, stub: Stub) -> None:
        self._begin("pending signals")
        signals.queue_pending(stub, self._process)
        self._begin("registers")
        threads.set_dumpable(stub, self._process)
        stub.syscall("unmap the work area", SYS_munmap, stub.work, WORK_SIZE)
        threads.set_states(self._process)
