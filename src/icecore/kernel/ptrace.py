# SPDX-License-Identifier: Apache-2.0
"""ptrace(2) and the waits that go with it: one function per request, stops as a small record, no policy.

Every request must come from the OS thread that attached. Constants are those of linux/ptrace.h.
"""

import ctypes
import errno
import os
import signal
from dataclasses import dataclass

from icecore.kernel.arch.x86_64 import NT_X86_XSTATE, REGISTERS_SIZE, SYS_ptrace, SYS_waitid
from icecore.kernel.libc import Argument, syscall_keeping_gil

PTRACE_CONT = 7
PTRACE_KILL = 8
PTRACE_DETACH = 17
PTRACE_SYSCALL = 24
PTRACE_SETOPTIONS = 0x4200
PTRACE_GETEVENTMSG = 0x4201
PTRACE_GETSIGINFO = 0x4202
PTRACE_GETREGSET = 0x4204
PTRACE_SETREGSET = 0x4205
PTRACE_SEIZE = 0x4206
PTRACE_INTERRUPT = 0x4207
PTRACE_LISTEN = 0x4208
PTRACE_PEEKSIGINFO = 0x4209
PTRACE_GETSIGMASK = 0x420A
PTRACE_SETSIGMASK = 0x420B
PTRACE_GET_RSEQ_CONFIGURATION = 0x420F
PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG = 0x4211

PTRACE_O_TRACESYSGOOD = 1
PTRACE_O_TRACEFORK = 1 << 1
PTRACE_O_TRACEVFORK = 1 << 2
PTRACE_O_TRACECLONE = 1 << 3
PTRACE_O_TRACEEXEC = 1 << 4
PTRACE_O_TRACEEXIT = 1 << 6
PTRACE_O_EXITKILL = 1 << 20
PTRACE_O_SUSPEND_SECCOMP = 1 << 21

PTRACE_EVENT_CLONE = 3
PTRACE_EVENT_EXEC = 4
PTRACE_EVENT_EXIT = 6
PTRACE_EVENT_STOP = 128

PTRACE_PEEKSIGINFO_SHARED = 1
NT_PRSTATUS = 1
WALL = 0x40000000
"""__WALL: wait for threads as well as processes."""
SIGINFO_SIZE = 128
XSTATE_ROOM = 16384
"""Room for the whole xsave area; the largest known (AMX) needs 11008 bytes."""


def ptrace(request: int, tid: int, address: Argument = 0, data: Argument = 0) -> int:
    """Any request; raises OSError (ESRCH: no such tracee, or it is not stopped)."""
    try:
        return syscall_keeping_gil(SYS_ptrace, request, tid, address, data)
    except OSError as error:
        raise OSError(error.errno, f"ptrace {request:#x} of {tid}: {os.strerror(error.errno or 0)}") from None


def seize(tid: int, options: int = 0) -> None:
    """Attach without stopping."""
    ptrace(PTRACE_SEIZE, tid, 0, options)


def interrupt(tid: int) -> None:
    """Ask a seized tracee to stop; it reports PTRACE_EVENT_STOP."""
    ptrace(PTRACE_INTERRUPT, tid)


def cont(tid: int, sig: int = 0) -> None:
    """Let a stopped tracee run, delivering ``sig`` if it stopped for a signal."""
    ptrace(PTRACE_CONT, tid, 0, sig)


def cont_to_syscall(tid: int, sig: int = 0) -> None:
    """PTRACE_SYSCALL: run up to the next entry to or exit from a system call."""
    ptrace(PTRACE_SYSCALL, tid, 0, sig)


def listen(tid: int) -> None:
    """Leave a tracee in its group stop, but let it report what ends it."""
    ptrace(PTRACE_LISTEN, tid)


def detach(tid: int, sig: int = 0) -> None:
    """Let a stopped tracee go."""
    ptrace(PTRACE_DETACH, tid, 0, sig)


def set_options(tid: int, options: int) -> None:
    """PTRACE_O_*; SUSPEND_SECCOMP needs CAP_SYS_ADMIN and a tracer without seccomp (EPERM)."""
    ptrace(PTRACE_SETOPTIONS, tid, 0, options)


def event_message(tid: int) -> int:
    """PTRACE_GETEVENTMSG: the new thread's id, the exit status, ..."""
    message = ctypes.c_ulong()
    ptrace(PTRACE_GETEVENTMSG, tid, 0, ctypes.addressof(message))
    return message.value


def signal_info(tid: int) -> bytes:
    """siginfo_t of the signal that a tracee stopped for."""
    buffer = ctypes.create_string_buffer(SIGINFO_SIZE)
    ptrace(PTRACE_GETSIGINFO, tid, 0, ctypes.addressof(buffer))
    return buffer.raw


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def _get_regset(tid: int, note: int, room: int) -> bytes:
    buffer = ctypes.create_string_buffer(room)
    iovec = _Iovec(ctypes.addressof(buffer), room)
    ptrace(PTRACE_GETREGSET, tid, note, ctypes.addressof(iovec))
    return buffer.raw[: iovec.length]


def _set_regset(tid: int, note: int, data: bytes) -> None:
    buffer = ctypes.create_string_buffer(data, len(data))
    iovec = _Iovec(ctypes.addressof(buffer), len(data))
    ptrace(PTRACE_SETREGSET, tid, note, ctypes.addressof(iovec))


def get_registers(tid: int) -> bytes:
    """NT_PRSTATUS: struct user_regs_struct (``arch.x86_64.Registers``)."""
    return _get_regset(tid, NT_PRSTATUS, REGISTERS_SIZE)


def set_registers(tid: int, data: bytes) -> None:
    """All general registers, fs and gs base included."""
    _set_regset(tid, NT_PRSTATUS, data)


def get_xstate(tid: int) -> bytes:
    """NT_X86_XSTATE: the xsave area in its uncompacted form; its length says which components there are."""
    return _get_regset(tid, NT_X86_XSTATE, XSTATE_ROOM)


def set_xstate(tid: int, data: bytes) -> None:
    """FPU, SSE, AVX... state; the length must be this machine's (EINVAL)."""
    _set_regset(tid, NT_X86_XSTATE, data)


def get_sigmask(tid: int) -> int:
    """The blocked signals, bit n-1 for signal n; of a call that swapped the mask (ppoll), the mask it will put back."""
    mask = ctypes.c_uint64()
    ptrace(PTRACE_GETSIGMASK, tid, 8, ctypes.addressof(mask))
    return mask.value


def set_sigmask(tid: int, value: int) -> None:
    """Set the blocked signals; SIGKILL and SIGSTOP are dropped by the kernel."""
    mask = ctypes.c_uint64(value)
    ptrace(PTRACE_SETSIGMASK, tid, 8, ctypes.addressof(mask))


class _PeekSiginfo(ctypes.Structure):
    """struct ptrace_peeksiginfo_args."""

    _fields_ = (("off", ctypes.c_uint64), ("flags", ctypes.c_uint32), ("nr", ctypes.c_int32))


def peek_siginfo(tid: int, *, shared: bool, batch: int = 32) -> list[bytes]:
    """siginfo_t (128 bytes each) of every queued signal, oldest first; nothing is dequeued."""
    found: list[bytes] = []
    buffer = ctypes.create_string_buffer(SIGINFO_SIZE * batch)
    while True:
        arguments = _PeekSiginfo(len(found), PTRACE_PEEKSIGINFO_SHARED if shared else 0, batch)
        n = ptrace(PTRACE_PEEKSIGINFO, tid, ctypes.addressof(arguments), ctypes.addressof(buffer))
        found += [buffer.raw[i * SIGINFO_SIZE : (i + 1) * SIGINFO_SIZE] for i in range(n)]
        if n < batch:
            return found


@dataclass(frozen=True, slots=True)
class RseqConfiguration:
    """struct ptrace_rseq_configuration; address 0: none registered."""

    address: int
    size: int
    signature: int
    flags: int


class _Rseq(ctypes.Structure):
    _fields_ = (
        ("address", ctypes.c_uint64),
        ("size", ctypes.c_uint32),
        ("signature", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
    )


def rseq_configuration(tid: int) -> RseqConfiguration:
    """Where the thread's restartable sequences area is (Linux 5.13; EIO before)."""
    raw = _Rseq()
    ptrace(PTRACE_GET_RSEQ_CONFIGURATION, tid, ctypes.sizeof(raw), ctypes.addressof(raw))
    return RseqConfiguration(raw.address, raw.size, raw.signature, raw.flags)


class _SyscallUserDispatch(ctypes.Structure):
    """struct ptrace_sud_config."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in ("mode", "selector", "offset", "len"))


def syscall_user_dispatch(tid: int) -> bool:
    """Whether the thread has its calls dispatched to itself (Linux 6.4; EIO before: cannot be known)."""
    raw = _SyscallUserDispatch()
    ptrace(PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, tid, ctypes.sizeof(raw), ctypes.addressof(raw))
    return bool(raw.mode)


@dataclass(frozen=True, slots=True)
class Stop:
    """What waitpid said of a tracee."""

    tid: int
    status: int

    @property
    def exited(self) -> bool:
        """Gone: exited or killed."""
        return os.WIFEXITED(self.status) or os.WIFSIGNALED(self.status)

    @property
    def event(self) -> int:
        """PTRACE_EVENT_*, 0 for other stops."""
        return self.status >> 16

    @property
    def signal(self) -> int:
        """The signal of the stop, without the system call mark."""
        return os.WSTOPSIG(self.status) & 0x7F

    @property
    def is_syscall(self) -> bool:
        """Entry to or exit from a system call (PTRACE_O_TRACESYSGOOD)."""
        return self.event == 0 and os.WSTOPSIG(self.status) == signal.SIGTRAP | 0x80

    @property
    def is_interrupt(self) -> bool:
        """The answer to PTRACE_INTERRUPT."""
        return self.event == PTRACE_EVENT_STOP and self.signal == signal.SIGTRAP

    @property
    def is_group_stop(self) -> bool:
        """Stopped by SIGSTOP and its kin."""
        return self.event == PTRACE_EVENT_STOP and self.signal != signal.SIGTRAP

    @property
    def is_signal(self) -> bool:
        """About to receive ``signal``."""
        return not self.exited and self.event == 0 and not self.is_syscall


def wait(tid: int, options: int = 0) -> Stop | None:
    """The next stop or end of a tracee; None with WNOHANG if there is none yet. ECHILD: not a tracee (any more)."""
    pid, status = os.waitpid(tid, options | WALL)
    return Stop(pid, status) if pid else None


_SIGINFO_PID, _SIGINFO_STATUS = 4, 6
"""Indices of 32-bit words in siginfo_t, for SIGCHLD."""


def stopped(tid: int) -> Stop | None:
    """A tracee's stop, if there is one now; its end raises ChildProcessError and is left for its parent to reap.

    waitid(WSTOPPED | WNOHANG) that keeps the GIL: a few hundred nanoseconds, and no other thread gets between.
    """
    info = (ctypes.c_int32 * (SIGINFO_SIZE // 4))()
    syscall_keeping_gil(SYS_waitid, os.P_PID, tid, ctypes.addressof(info), os.WSTOPPED | os.WNOHANG | WALL)
    if not info[_SIGINFO_PID]:
        return None
    return Stop(tid, info[_SIGINFO_STATUS] << 8 | 0x7F)


def is_gone(error: OSError) -> bool:
    """Whether an error means that the tracee exists no more (or is dying)."""
    return error.errno in (errno.ESRCH, errno.ECHILD)
