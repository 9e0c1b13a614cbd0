# SPDX-License-Identifier: Apache-2.0
"""The threads beside the leader: each must be alive, and share everything with it as pthread_create makes it."""

from collections.abc import Iterable, Iterator

from icecore.daemon.check.reason import Reason
from icecore.kernel import procfs
from icecore.kernel.kcmp import KCMP_FILES, KCMP_FS, kcmp

IDENTITY = (b"Uid:", b"Gid:", b"Groups:", b"CapInh:", b"CapPrm:", b"CapEff:", b"CapBnd:", b"CapAmb:", b"NoNewPrivs:")
SECCOMP = b"Seccomp:"


def refuse_threads(pid: int, tids: Iterable[int]) -> list[Reason]:
    """Obstacles in any thread. One that ends meanwhile is none."""
    leader = fields(pid, pid)
    others = [tid for tid in tids if tid != pid]
    return [reason for tid in others for reason in refuse_thread(pid, tid, leader)]


def refuse_thread(pid: int, tid: int, leader: dict[bytes, bytes]) -> Iterator[Reason]:
    thing = f"thread {tid}"
    try:
        own = fields(pid, tid)
        if own[b"State:"][:1] in (b"Z", b"X"):
            yield Reason("thread-ended", thing, "has ended, but is not gone")
            return
        if any(own.get(name) != leader.get(name) for name in IDENTITY):
            yield Reason("credentials", thing, "has other user ids, groups or capabilities than the main thread")
        if own.get(SECCOMP) != leader.get(SECCOMP):
            yield Reason("seccomp", thing, "has a seccomp filter that the main thread has not")
        for kind, what in ((KCMP_FS, "working directory and umask"), (KCMP_FILES, "descriptor table")):
            if kcmp(pid, tid, kind):
                yield Reason("unshared-thread", thing, f"has a {what} of its own")
    except (FileNotFoundError, ProcessLookupError):
        return


def fields(pid: int, tid: int) -> dict[bytes, bytes]:
    """The lines of a thread's status, raw: made for each of perhaps hundreds of threads."""
    text = procfs.read_bytes(pid, f"task/{tid}/status")
    return {name: value for name, _, value in (line.partition(b"\t") for line in text.splitlines())}
