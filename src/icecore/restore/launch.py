# SPDX-License-Identifier: Apache-2.0
"""A new process with a pid of our choice, traced from its first instruction.

A launcher (a static program of a few instructions, in a memfd) is started with posix_spawn, seized, and made to call
clone3 with set_tid and CLONE_PARENT: the process that comes out of it is our own child, and traced before it runs.
We do not fork ourselves: a fork of a threaded Python may never come back from its first bytecode, and copies our
page tables. If we die, the launcher is killed by PTRACE_O_EXITKILL, or before that ends by reading the end of a pipe.
"""

import errno
import fcntl
import os
import signal
import struct
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from icecore.errors import Busy, CannotRestore, NotPermitted
from icecore.inject.memory import poke
from icecore.kernel import ptrace
from icecore.kernel.arch.x86_64 import SYS_clone3, SYS_mmap
from icecore.kernel.clone3 import CLONE_ARGS_SIZE, CLONE_PARENT, clone_args
from icecore.kernel.elf import CODE_OFFSET, minimal_elf
from icecore.kernel.mman import MAP_ANONYMOUS, MAP_FIXED_NOREPLACE, MAP_PRIVATE
from icecore.kernel.procfs import read_maps
from icecore.restore.holders import who_holds
from icecore.restore.runner import LAUNCHER, LAUNCHER_SYSCALL, WORK_SIZE
from icecore.restore.space import Span, gap
from icecore.restore.stub import OPTIONS, Stub, raw_syscall, reap

ADDRESS = 0x1000_0000
PARKING_SIZE = 1 << 20
"""Behind the work area: where vdso and vvar wait while everything else is unmapped."""
_MFD_EXEC = 0x10
_RWX = 7
_STDERR = 2


@dataclass(frozen=True, slots=True)
class Launched:
    """A stub as it is born, and where its three streams are."""

    stub: Stub
    streams: tuple[int, int, int]
    """Its fds for the streams that the caller gave."""


def launch(pid: int, tids: Iterable[int], taken: Iterable[Span], stdio: tuple[int, int, int]) -> Launched:
    """Make process ``pid``, a child of ours, with an empty work area that keeps clear of ``taken``.

    Raises Busy (the pid is in use), NotPermitted (no CAP_CHECKPOINT_RESTORE), CannotRestore.
    """
    with ExitStack() as stack:
        launcher, streams = _spawn_elsewhere(stack, {pid, *tids}, stdio)
        work = _map_work(launcher, taken)
        return Launched(_adopt(_clone(launcher, work, pid), work), streams)


def _adopt(pid: int, work: int) -> Stub:
    """Wait until the new process is there; it has not run yet."""
    try:
        stub = Stub(pid, work, ADDRESS + CODE_OFFSET + LAUNCHER_SYSCALL)
        try:
            stub.wait(pid)
            stub.install()
        except BaseException:
            os.close(stub.pidfd)
            raise
    except BaseException:
        _end(pid)
        raise
    return stub


def _spawn_elsewhere(
    stack: ExitStack, wanted: set[int], stdio: tuple[int, int, int]
) -> tuple[int, tuple[int, int, int]]:
    """A seized, stopped launcher that does not happen to sit on a pid that we want; ``stack`` ends it."""
    with ExitStack() as spare:
        while True:
            with ExitStack() as own:
                launcher, streams = _spawn(own, stdio)
                (spare if launcher in wanted else stack).enter_context(own.pop_all())
            if launcher not in wanted:
                return launcher, streams


def _spawn(stack: ExitStack, stdio: tuple[int, int, int]) -> tuple[int, tuple[int, int, int]]:
    """A launcher, and the fds that it has for the three streams."""
    program = _program()
    stack.callback(os.close, program)
    alive, leash = os.pipe()
    stack.callback(os.close, leash)
    base = max(program, alive, leash, *stdio) + 1
    actions = [(os.POSIX_SPAWN_DUP2, fd, base + n) for n, fd in enumerate(stdio)]
    actions.append((os.POSIX_SPAWN_DUP2, alive, 0))
    try:
        launcher = os.posix_spawn(f"/proc/self/fd/{program}", ["icecore-restore"], {}, file_actions=actions)
    finally:
        os.close(alive)
    stack.callback(_end, launcher)
    _seize(launcher)
    return launcher, (base, base + 1, base + 2)


def _seize(launcher: int) -> None:
    ptrace.seize(launcher, OPTIONS)
    ptrace.interrupt(launcher)
    while not (stop := ptrace.wait(launcher)) or not stop.is_interrupt:
        if stop is None or stop.exited:
            raise CannotRestore("the launcher of the new process died", "something kills new processes here")
        ptrace.cont(launcher)


def _program() -> int:
    try:
        fd = os.memfd_create("icecore-restore", os.MFD_CLOEXEC | _MFD_EXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:  # before Linux 6.3 there was no such flag, and every memfd was executable
            raise
        fd = os.memfd_create("icecore-restore", os.MFD_CLOEXEC)
    os.write(fd, minimal_elf(ADDRESS, LAUNCHER))
    return fd if fd > _STDERR else _above_streams(fd)


def _above_streams(fd: int) -> int:
    """Out of the way of the launcher's own fd 0."""
    above = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _STDERR + 1)
    os.close(fd)
    return above


def _end(launcher: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(launcher, signal.SIGKILL)
    reap(launcher)


def _map_work(launcher: int, taken: Iterable[Span]) -> int:
    own = ((vma.start, vma.end) for vma in read_maps(launcher))
    work = gap([*taken, *own], WORK_SIZE + PARKING_SIZE)
    flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
    result = _call(launcher, SYS_mmap, work, WORK_SIZE, _RWX, flags, -1, 0)
    if result != work:
        raise CannotRestore(f"cannot map the work area: {os.strerror(-result)}")
    return work


def _clone(launcher: int, work: int, pid: int) -> int:
    arguments = clone_args(flags=CLONE_PARENT, set_tid=work + CLONE_ARGS_SIZE, set_tid_size=1)
    poke(launcher, work, arguments + struct.pack("=i", pid))
    result = _call(launcher, SYS_clone3, work, CLONE_ARGS_SIZE)
    if result < 0:
        raise clone_error(pid, -result)
    return result


def _call(launcher: int, number: int, *arguments: int) -> int:
    return raw_syscall(launcher, ADDRESS + CODE_OFFSET + LAUNCHER_SYSCALL, number, *arguments)


def clone_error(pid: int, number: int) -> Busy | NotPermitted | CannotRestore:
    """What clone3 with set_tid has to say."""
    if number == errno.EEXIST:
        return Busy(f"pid {pid} is taken by {who_holds(pid)}", "end that process, or restore after a reboot")
    if number == errno.EPERM:
        return NotPermitted(
            f"choosing pid {pid} needs CAP_CHECKPOINT_RESTORE", "run as root, or give icecore that capability"
        )
    if number == errno.EINVAL:
        return CannotRestore(f"pid {pid} is beyond this host's limit", "raise /proc/sys/kernel/pid_max")
    return CannotRestore(f"cannot make process {pid}: {os.strerror(number)}")
