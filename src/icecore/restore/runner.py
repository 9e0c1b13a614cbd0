# SPDX-License-Identifier: Apache-2.0
"""x86-64 machine code that works inside the process being made, and the layout of the area it works in.

Unlike what ``inject`` puts into a live target, nothing here has to undo itself: if the restoring process dies, the
kernel kills the half-made one (PTRACE_O_EXITKILL). The runner makes the calls of a table one after the other, stops at
the first that fails, and reports by a SIGSTOP to its own thread: the one signal that no mask and no action touches.
"""

import struct

from icecore.kernel.arch.x86_64 import Registers

PAGE = 4096
ENTRY = struct.Struct("<8Q")
"""A call: number, six arguments, result."""

CODE_OFFSET = 0
TABLE_OFFSET = PAGE
TABLE_ENTRIES = 1 << 14
DATA_OFFSET = TABLE_OFFSET + TABLE_ENTRIES * ENTRY.size
DATA_SIZE = 1 << 20
"""What the calls of one table point to."""
KEEP_OFFSET = DATA_OFFSET + DATA_SIZE
KEEP_SIZE = 1 << 20
"""What must outlive a table, or is pointed to by what a call points to."""
WORK_SIZE = KEEP_OFFSET + KEEP_SIZE

RUNNER = (
    b"\x4c\x39\xe3"  # loop: cmp rbx, r12        rbx: next entry, r12: end of the table
    b"\x74\x2d"  # je done
    b"\x48\x8b\x03"  # mov rax, [rbx]
    b"\x48\x8b\x7b\x08"  # mov rdi, [rbx + 8]
    b"\x48\x8b\x73\x10"  # mov rsi, [rbx + 16]
    b"\x48\x8b\x53\x18"  # mov rdx, [rbx + 24]
    b"\x4c\x8b\x53\x20"  # mov r10, [rbx + 32]
    b"\x4c\x8b\x43\x28"  # mov r8, [rbx + 40]
    b"\x4c\x8b\x4b\x30"  # mov r9, [rbx + 48]
    b"\x0f\x05"  # syscall
    b"\x48\x89\x43\x38"  # mov [rbx + 56], rax
    b"\x48\x83\xc3\x40"  # add rbx, 64
    b"\x48\x3d\x01\xf0\xff\xff"  # cmp rax, -4095
    b"\x72\xce"  # jb loop                      unsigned: anything but -4095 ... -1
    b"\xb8\xea\x00\x00\x00"  # done: mov eax, 234 (tgkill)
    b"\x44\x89\xf7"  # mov edi, r14d            the process
    b"\x44\x89\xfe"  # mov esi, r15d            the thread
    b"\xba\x13\x00\x00\x00"  # mov edx, 19 (SIGSTOP)
    b"\x0f\x05"  # syscall
    b"\xeb\xfe"  # jmp .
)
REPORTED = len(RUNNER) - 2
"""Offset of the instruction pointer when the runner has reported."""

LAUNCHER = (
    b"\x31\xc0"  # xor eax, eax (read)
    b"\x31\xff"  # xor edi, edi (fd 0: a pipe that the restoring process holds)
    b"\x48\x8d\x74\x24\xf8"  # lea rsi, [rsp - 8]
    b"\xba\x01\x00\x00\x00"  # mov edx, 1
    b"\x0f\x05"  # syscall: sleeps until it is traced, or until the restoring process is gone
    b"\xbf\x01\x00\x00\x00"  # mov edi, 1
    b"\xb8\xe7\x00\x00\x00"  # mov eax, 231 (exit_group)
    b"\x0f\x05"  # syscall
)
LAUNCHER_SYSCALL = LAUNCHER.index(b"\x0f\x05")


def runner_registers(now: Registers, work: int, count: int, pid: int, tid: int) -> Registers:
    """Registers that make the first ``count`` calls of the table; no stack, and no call that could be restarted."""
    return Registers(
        rip=work + CODE_OFFSET, rbx=work + TABLE_OFFSET, r12=work + TABLE_OFFSET + count * ENTRY.size, r14=pid, r15=tid,
        orig_rax=(1 << 64) - 1, cs=now.cs, ss=now.ss, eflags=0x202, fs_base=now.fs_base, gs_base=now.gs_base,
    )  # fmt: skip


def calls_made(now: Registers, work: int) -> int:
    """How many calls of the table the runner has made when it has reported; the last of them may have failed."""
    return (now.rbx - work - TABLE_OFFSET) // ENTRY.size
