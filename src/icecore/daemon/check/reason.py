# SPDX-License-Identifier: Apache-2.0
"""Why a process cannot be checkpointed: one record per obstacle, and the remedy for each kind of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from icecore.errors import CannotRestore

REMEDIES = {
    "aio": "finish the asynchronous I/O and call io_destroy",
    "async-io": "switch O_ASYNC off with fcntl(F_SETFL)",
    "bpf": "close it, or let another process hold it",
    "capabilities": "run icecore with at least those rights (as root)",
    "child": "wait for it to end, or checkpoint a program that does not fork",
    "credentials": "give all threads the same identity",
    "cwd": "let it chdir to a directory that exists",
    "deleted-file": "keep the file, or close it",
    "deleted-mapping": "restart the program: its file was removed or upgraded under it",
    "device": "close it before the checkpoint",
    "epoll": "remove the file from the epoll set before closing its descriptor",
    "fanotify": "close it before the checkpoint",
    "fifo": "close it before the checkpoint; only the standard streams may be named pipes",
    "file-lock": "release the lock before the checkpoint",
    "hugetlb": "use transparent huge pages (MADV_HUGEPAGE) instead",
    "inotify": "close it before the checkpoint",
    "io-uring": "run the program without io_uring (for libuv: UV_USE_IO_URING=0)",
    "kernel-file": "close it before the checkpoint: its content is the kernel's, not a file's",
    "memfd": "map it anonymously (MAP_SHARED|MAP_ANONYMOUS), or use a real file",
    "moved-file": "put the file back in its place, or close it",
    "namespace": "run it in the namespaces of icecore; containers are not supported yet",
    "packet-pipe": "open the pipe without O_DIRECT",
    "perf": "stop profiling the program",
    "pidfd": "close it before the checkpoint",
    "pinned": "end what pins its memory (RDMA, io_uring buffers, VFIO)",
    "pipe": "close it, or let the standard streams be the only way out",
    "posix-timer": "use timerfd or setitimer, or delete the timer",
    "root": "run it without chroot",
    "seccomp": "run it without seccomp filter (systemd: SystemCallFilter=, docker: --security-opt seccomp=unconfined)",
    "secret-memory": "run it without memfd_secret",
    "shadow-stack": "run it without shadow stack (GLIBC_TUNABLES=glibc.cpu.x86_shstk=off)",
    "shared-file-mapping": "map the file privately, or unmap it before the checkpoint",
    "shared-memory": "let only this process map it",
    "shared-tables": "start it by fork or posix_spawn, not by clone with CLONE_FILES, CLONE_FS or CLONE_VM",
    "socket": "close it before the checkpoint",
    "special-mapping": "unmap it before the checkpoint",
    "stopped": "let it go on with SIGCONT",
    "symlink": "close it before the checkpoint",
    "syscall-dispatch": "run it without syscall user dispatch (Wine)",
    "sysv-shm": "use mmap(MAP_SHARED|MAP_ANONYMOUS) instead of shmget",
    "terminal": "only standard input, output and error may be a terminal: close it",
    "thread-ended": "join the thread",
    "unknown-file": "close it before the checkpoint",
    "unshared-thread": "run it without unshare(CLONE_FS) or unshare(CLONE_FILES) in its threads",
    "userfaultfd": "close it before the checkpoint",
}
"""What the user can do, by kind of obstacle; docs/resources.md has a row for each."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that a restore could not bring back."""

    kind: str
    """A key of REMEDIES."""
    thing: str
    """Which: ``fd 7``, ``mapping 7f00-7f10``, ``thread 4243``, ``process``."""
    why: str
    """What it is, or what is wrong with it."""

    @property
    def remedy(self) -> str:
        """What the user can do."""
        return REMEDIES[self.kind]

    def __str__(self) -> str:
        return f"{self.thing}: {self.why}; {self.remedy}"


def cannot_restore(label: str, reasons: Sequence[Reason]) -> CannotRestore:
    """One error for all reasons (at least one). The first is in the message, the rest are counted."""
    first = reasons[0]
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    message = f"{label} holds what cannot be restored: {first.thing}: {first.why}{more}"
    return CannotRestore(message, first.remedy, tuple(str(reason) for reason in reasons))
