# SPDX-License-Identifier: Apache-2.0
"""x86-64: system call numbers (asm/unistd_64.h) and struct user_regs_struct (sys/user.h)."""

import struct
from dataclasses import dataclass

MACHINE = "x86_64"
NT_X86_XSTATE = 0x202
USER_CS = 0x33
"""Code segment of a 64-bit task; a 32-bit one has 0x23."""
TASK_SIZE = 0x7FFF_FFFF_F000

_REGISTERS = struct.Struct("<27Q")


@dataclass(slots=True)
class Registers:
    """struct user_regs_struct, the NT_PRSTATUS register set: 27 unsigned 64-bit words in this order."""

    r15: int = 0
    r14: int = 0
    r13: int = 0
    r12: int = 0
    rbp: int = 0
    rbx: int = 0
    r11: int = 0
    r10: int = 0
    r9: int = 0
    r8: int = 0
    rax: int = 0
    rcx: int = 0
    rdx: int = 0
    rsi: int = 0
    rdi: int = 0
    orig_rax: int = 0
    rip: int = 0
    cs: int = 0
    eflags: int = 0
    rsp: int = 0
    ss: int = 0
    fs_base: int = 0
    gs_base: int = 0
    ds: int = 0
    es: int = 0
    fs: int = 0
    gs: int = 0

    @classmethod
    def unpack(cls, raw: bytes) -> "Registers":
        """From the bytes that PTRACE_GETREGSET gives."""
        return cls(*_REGISTERS.unpack(raw))

    def pack(self) -> bytes:
        """To the bytes that PTRACE_SETREGSET takes."""
        return _REGISTERS.pack(
            self.r15, self.r14, self.r13, self.r12, self.rbp, self.rbx, self.r11, self.r10, self.r9, self.r8,
            self.rax, self.rcx, self.rdx, self.rsi, self.rdi, self.orig_rax, self.rip, self.cs, self.eflags,
            self.rsp, self.ss, self.fs_base, self.gs_base, self.ds, self.es, self.fs, self.gs,
        )  # fmt: skip

    @property
    def result(self) -> int:
        """The system call's result: negative is -errno."""
        return signed(self.rax)

    @property
    def in_syscall(self) -> bool:
        """Whether the kernel would consider restarting a call (orig_rax is a call number)."""
        return signed(self.orig_rax) >= 0


def signed(word: int) -> int:
    """A 64-bit register as a signed number."""
    return word - (1 << 64) if word >> 63 else word


REGISTERS_SIZE = _REGISTERS.size
NO_SYSCALL = (1 << 64) - 1
"""orig_rax of a task that is in no system call."""

SYS_arch_prctl = 158
SYS_bpf = 321
SYS_brk = 12
SYS_capset = 126
SYS_chdir = 80
SYS_clock_nanosleep = 230
SYS_clone = 56
SYS_clone3 = 435
SYS_close = 3
SYS_close_range = 436
SYS_dup = 32
SYS_dup2 = 33
SYS_dup3 = 292
SYS_epoll_create1 = 291
SYS_epoll_ctl = 233
SYS_epoll_pwait = 281
SYS_epoll_pwait2 = 441
SYS_epoll_wait = 232
SYS_eventfd2 = 290
SYS_execve = 59
SYS_execveat = 322
SYS_exit = 60
SYS_exit_group = 231
SYS_fallocate = 285
SYS_fanotify_init = 300
SYS_fchdir = 81
SYS_fcntl = 72
SYS_fork = 57
SYS_ftruncate = 77
SYS_futex = 202
SYS_get_robust_list = 274
SYS_getitimer = 36
SYS_getpid = 39
SYS_getrandom = 318
SYS_gettid = 186
SYS_inotify_init1 = 294
SYS_io_getevents = 208
SYS_io_uring_setup = 425
SYS_ioctl = 16
SYS_kcmp = 312
SYS_kill = 62
SYS_linkat = 265
SYS_lseek = 8
SYS_madvise = 28
SYS_membarrier = 324
SYS_memfd_create = 319
SYS_mlock = 149
SYS_mlock2 = 325
SYS_mmap = 9
SYS_mprotect = 10
SYS_mremap = 25
SYS_msgrcv = 70
SYS_msgsnd = 69
SYS_msync = 26
SYS_munmap = 11
SYS_nanosleep = 35
SYS_open = 2
SYS_openat = 257
SYS_pause = 34
SYS_perf_event_open = 298
SYS_personality = 135
SYS_pidfd_getfd = 438
SYS_pidfd_open = 434
SYS_pidfd_send_signal = 424
SYS_pipe2 = 293
SYS_poll = 7
SYS_ppoll = 271
SYS_prctl = 157
SYS_preadv = 295
SYS_prlimit64 = 302
SYS_process_madvise = 440
SYS_process_vm_readv = 310
SYS_process_vm_writev = 311
SYS_pselect6 = 270
SYS_ptrace = 101
SYS_pwritev = 296
SYS_read = 0
SYS_restart_syscall = 219
SYS_rseq = 334
SYS_rt_sigaction = 13
SYS_rt_sigpending = 127
SYS_rt_sigprocmask = 14
SYS_rt_sigqueueinfo = 129
SYS_rt_sigsuspend = 130
SYS_rt_sigtimedwait = 128
SYS_rt_tgsigqueueinfo = 297
SYS_sched_setaffinity = 203
SYS_seccomp = 317
SYS_select = 23
SYS_semop = 65
SYS_semtimedop = 220
SYS_set_robust_list = 273
SYS_set_tid_address = 218
SYS_setfsgid = 123
SYS_setfsuid = 122
SYS_setgroups = 116
SYS_setitimer = 38
SYS_setns = 308
SYS_setpgid = 109
SYS_setresgid = 119
SYS_setresuid = 117
SYS_setreuid = 113
SYS_setsid = 112
SYS_shmat = 30
SYS_sigaltstack = 131
SYS_signalfd4 = 289
SYS_splice = 275
SYS_tee = 276
SYS_tgkill = 234
SYS_timerfd_create = 283
SYS_timerfd_gettime = 287
SYS_timerfd_settime = 286
SYS_tkill = 200
SYS_umask = 95
SYS_userfaultfd = 323
SYS_vfork = 58
SYS_vmsplice = 278
SYS_wait4 = 61
SYS_waitid = 247
SYS_write = 1
