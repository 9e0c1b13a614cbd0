# SPDX-License-Identifier: Apache-2.0
"""The threads beside the leader: each must be alive, and share everything with it as pthread_create makes it."""

from collections.abc import Iterable, Iterator
from contextlib import suppress

from icecore.daemon.check.reason import Reason
from icecore.kernel import procfs
from icecore.kernel.kcmp import KCMP_FILES, KCMP_FS, kcmp

IDENTITY = (b"Uid:", b"Gid:", b"Groups:", b"CapInh:", b"CapPrm:", b"CapEff:", b"CapBnd:", b"CapAmb:", b"NoNewPrivs:")
SECCOMP = b"Seccomp:"


def refuse_threads(pid: int, statuses: Iterable[tuple[int, bytes]]) -> list[Reason]:
    """Obstacles in any thread, each given by its id and its /proc/PID/task/TID/status, the leader first."""
    (_, leader), *others = statuses
    return [reason for tid, status in others for reason in refuse_thread(pid, tid, fields(status), fields(leader))]


def read_statuses(pid: int) -> Iterator[tuple[int, bytes]]:
    """Of all threads, the leader first. One that ends meanwhile is left out."""
    for tid in sorted(procfs.thread_ids(pid), key=lambda tid: tid != pid):
        try:
            yield tid, procfs.read_bytes(pid, f"task/{tid}/status")
        except (FileNotFoundError, ProcessLookupError):
            if tid == pid:
                raise


def refuse_thread(pid: int, tid: int, own: dict[bytes, bytes], leader: dict[bytes, bytes]) -> Iterator[Reason]:
    thing = f"thread {tid}"
    if own[b"State:"][:1] in (b"Z", b"X"):
        yield Reason("thread-ended", thing, "has ended, but is not gone")
        return
    if any(own.get(name) != leader.get(name) for name in IDENTITY):
        yield Reason("credentials", thing, "has other user ids, groups or capabilities than the main thread")
    if own.get(SECCOMP) != leader.get(SECCOMP):
        yield Reason("seccomp", thing, "has a seccomp filter that the main thread has not")
    with suppress(ProcessLookupError):
        for kind, what in ((KCMP_FS, "working directory and umask"), (KCMP_FILES, "descriptor table")):
            if kcmp(pid, tid, kind):
                yield Reason("unshared-thread", thing, f"has a {what} of its own")


def fields(status: bytes) -> dict[bytes, bytes]:
    """The lines of a thread's status, raw: made for each of perhaps hundreds of threads."""
    return {name: value for name, _, value in (line.partition(b"\t") for line in status.splitlines())}
