# SPDX-License-Identifier: Apache-2.0
"""A process that is to be checkpointed, held by pidfd and start time so that a reused pid is never mistaken for it."""

import errno
import os
import select
from dataclasses import dataclass
from typing import Self

from icecore.errors import Busy, CannotRestore, NoSuchProcess, NotPermitted, TargetGone, UsageError
from icecore.kernel import pidfd, procfs

ELF_CLASS_64 = 64


@dataclass(slots=True)
class Target:
    """An open target. ``pidfd`` is owned here and -1 once closed."""

    pid: int
    start_time: int
    """Field 22 of /proc/PID/stat, clock ticks since boot."""
    comm: str
    pidfd: int

    @classmethod
    def open(cls, pid: int) -> "Target":
        """Take hold of a process, or say why it can never be checkpointed. Nothing of the process is touched.

        Errors: NoSuchProcess (unknown, zombie, the id of a thread), NotPermitted, Busy (traced by somebody else),
        CannotRestore (kernel thread, 32-bit program), UsageError (ourselves, or no pid at all).
        """
        refuse_ourselves(pid)
        fd = open_pidfd(pid)
        try:
            stat = procfs.read_stat(pid)
            refuse_unsuitable(pid, stat)
        except (FileNotFoundError, ProcessLookupError):
            os.close(fd)
            raise no_such_process(pid) from None
        except BaseException:
            os.close(fd)
            raise
        return cls(pid, stat.start_time, stat.comm, fd)

    @property
    def label(self) -> str:
        """For messages: ``process 4242 (python3)``."""
        return f"process {self.pid} ({self.comm})"

    def alive(self) -> bool:
        """Whether the process has not ended (a zombie has)."""
        return not self.ends_within(0)

    def ends_within(self, milliseconds: int) -> bool:
        """Whether the process has ended, or does so in that time."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(milliseconds))

    def verify(self) -> None:
        """Raise TargetGone unless the pid still is this process."""
        if not self.alive() or not procfs.same_process(self.pid, self.start_time):
            raise TargetGone(f"{self.label} has ended")

    def close(self) -> None:
        """Let go of the pidfd; harmless if done twice."""
        fd, self.pidfd = self.pidfd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def refuse_ourselves(pid: int) -> None:
    if pid <= 0:
        raise UsageError(f"{pid} is not a process id", "give the positive number that ps shows")
    if pid == os.getpid():
        raise UsageError(f"process {pid} is icecore itself", "a process cannot freeze itself: name another one")


def open_pidfd(pid: int) -> int:
    try:
        return pidfd.pidfd_open(pid)
    except OSError as error:
        # A thread that does not lead its group: EINVAL, since Linux 6.9 ENOENT.
        if error.errno in (errno.EINVAL, errno.ENOENT):
            raise not_a_leader(pid) from None
        if error.errno == errno.ESRCH:
            raise no_such_process(pid) from None
        raise


def not_a_leader(tid: int) -> NoSuchProcess:
    try:
        leader = procfs.read_status(tid).tgid
        comm = procfs.read_stat(leader).comm
    except (FileNotFoundError, ProcessLookupError):
        return no_such_process(tid)
    return NoSuchProcess(f"{tid} is a thread of process {leader} ({comm}), not a process", f"use pid {leader}")


def no_such_process(pid: int) -> NoSuchProcess:
    return NoSuchProcess(f"no process has the pid {pid}", "`ps -e` lists those that exist")


def refuse_unsuitable(pid: int, stat: procfs.Stat) -> None:
    """Everything about a process that no later moment will change, and who else has hold of it."""
    label = f"process {pid} ({stat.comm})"
    status = procfs.read_status(pid)
    if status.tgid != pid:
        raise not_a_leader(pid)
    if procfs.is_kernel_thread(pid):
        raise CannotRestore(f"{label} is a kernel thread", "only programs can be checkpointed: name another process")
    refuse_ended(label, stat)
    refuse_traced(label, status)
    refuse_unreachable(pid, label)
    if procfs.elf_class(pid) != ELF_CLASS_64:
        raise CannotRestore(
            f"{label} is a 32-bit program", "run its 64-bit build: only x86-64 programs can be restored"
        )


def refuse_ended(label: str, stat: procfs.Stat) -> None:
    if stat.state not in ("Z", "X", "x"):
        return
    if stat.num_threads > 1:
        raise CannotRestore(
            f"{label} has ended its main thread while others run",
            "a process without main thread cannot be rebuilt: let the program keep its main thread (pthread_join)",
        )
    raise NoSuchProcess(
        f"{label} is a zombie: it has ended and waits for its parent to notice", "nothing is left of it"
    )


def refuse_traced(label: str, status: procfs.Status) -> None:
    # A thread of our own is another checkpoint of it, and soon done.
    if status.tracer_pid and not os.path.exists(f"/proc/self/task/{status.tracer_pid}"):
        raise Busy(
            f"{label} is being traced by {tracer_name(status.tracer_pid)}",
            f"detach that debugger first (`kill {status.tracer_pid}` ends it)",
        )


def tracer_name(pid: int) -> str:
    try:
        return f"process {pid} ({procfs.read_stat(pid).comm})"
    except OSError:
        return f"process {pid}"


def refuse_unreachable(pid: int, label: str) -> None:
    """Opening /proc/PID/mem asks the kernel for exactly what ptrace needs (PTRACE_MODE_ATTACH), without attaching."""
    try:
        os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC))
    except PermissionError:
        owner = os.stat(f"/proc/{pid}").st_uid
        raise NotPermitted(
            f"{label} of user {owner} may not be traced by user {os.geteuid()}",
            "run as root or as its owner; with /proc/sys/kernel/yama/ptrace_scope above 0 only root may",
        ) from None
