# SPDX-License-Identifier: Apache-2.0
"""x86-64 machine code that is put into a target, by hand, since it must leave no trace.

A program ends by putting back every general register and jumping to where the thread was, whoever is watching. The
arithmetic flags must survive, so nothing here changes them: ``lea`` adds, ``jrcxz`` decides, ``bswap`` looks at a sign.
A system call keeps the flags and clobbers rcx and r11 only. The stack is never touched (goroutine stacks have no room).
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from icecore.kernel.arch.x86_64 import (
    NO_SYSCALL,
    REGISTERS_SIZE,
    Registers,
    SYS_close,
    SYS_munmap,
    SYS_pselect6,
    SYS_restart_syscall,
    SYS_rt_sigprocmask,
)

Program = Callable[[bytes], bytes]
"""Machine code, given the code that ends it (``leave``)."""

SYSCALL = b"\x0f\x05"
CODE_ALIGN = 16
SIG_SETMASK = 2
PATIENCE_NS = 500_000_000
"""How long a finished table waits for its tracer before it cleans up by itself."""

ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK = 512, 513, 514, 516

# Table: count and done word in the head, then 64-byte entries: number, six arguments, result.
ENTRY = struct.Struct("<8Q")
HEAD_SIZE = 64
DONE_OFFSET = 8

_MOVABS = {
    "rax": b"\x48\xb8", "rcx": b"\x48\xb9", "rdx": b"\x48\xba", "rbx": b"\x48\xbb", "rbp": b"\x48\xbd",
    "rsi": b"\x48\xbe", "rdi": b"\x48\xbf", "r8": b"\x49\xb8", "r9": b"\x49\xb9", "r10": b"\x49\xba",
    "r11": b"\x49\xbb", "r12": b"\x49\xbc", "r13": b"\x49\xbd", "r14": b"\x49\xbe", "r15": b"\x49\xbf",
}  # fmt: skip
_MOV32 = {"eax": b"\xb8", "edx": b"\xba", "esi": b"\xbe", "edi": b"\xbf", "r9d": b"\x41\xb9", "r10d": b"\x41\xba"}


@dataclass(frozen=True, slots=True)
class SystemCall:
    """What a program begins with: a call, its arguments in registers."""

    number: int
    arguments: tuple[int, ...] = ()

    def registers(self, base: Registers, address: int) -> Registers:
        """``base`` about to make the call at ``address``; stack, segment bases and flags stay the thread's."""
        rdi, rsi, rdx, r10, r8, r9 = (*self.arguments, 0, 0, 0, 0, 0, 0)[:6]
        return replace(
            base, rax=self.number, rdi=rdi, rsi=rsi, rdx=rdx, r10=r10, r8=r8, r9=r9, rip=address, orig_rax=NO_SYSCALL
        )


def resumed(registers: Registers) -> Registers:
    """Registers with which an interrupted system call goes on when the kernel no longer decides (signal(7)).

    The kernel's own rules without a signal to deliver: the call is made again, or restart_syscall takes its place.
    """
    after = Registers.unpack(registers.pack())
    if registers.in_syscall and -registers.result in (ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND):
        after.rip, after.rax = registers.rip - 2, registers.orig_rax
    elif registers.in_syscall and -registers.result == ERESTART_RESTARTBLOCK:
        after.rip, after.rax = registers.rip - 2, SYS_restart_syscall
    return after


def _mov32(**values: int) -> bytes:
    return b"".join(_MOV32[name] + struct.pack("<I", value) for name, value in values.items())


_REST = struct.Struct(f"<{'2sQ' * len(_MOVABS)}6sQQ")
"""Loads of all registers, the jump with its target, the signal mask."""
_TO_MASK = len(_mov32(edx=0, r10d=8) + SYSCALL) + _REST.size - 8
_UNBLOCK = (
    _mov32(eax=SYS_rt_sigprocmask, edi=SIG_SETMASK)
    + b"\x48\x8d\x35"  # lea rsi, [rip + to_mask]
    + struct.pack("<i", _TO_MASK)
    + _mov32(edx=0, r10d=8)
    + SYSCALL
)


def leave(registers: Registers, sigmask: int) -> bytes:
    """Unblock what the tracer blocked, restore every register, jump back."""
    after = resumed(registers)
    words = [word for name, opcode in _MOVABS.items() for word in (opcode, getattr(after, name))]
    return _UNBLOCK + _REST.pack(*words, b"\xff\x25\x00\x00\x00\x00", after.rip, sigmask)  # jmp [rip]


def single_program(end: bytes) -> bytes:
    """One system call, its arguments already in the registers."""
    return SYSCALL + end


def open_close_program(end: bytes) -> bytes:
    """A call that returns an fd, and close() of that fd: between the two the tracer may take a copy."""
    return SYSCALL + b"\x48\x89\xc7" + _mov32(eax=SYS_close) + SYSCALL + end  # mov rdi, rax


def _wait() -> bytes:
    """pselect6 for PATIENCE_NS: of the calls that sleep, one that leaves the thread's restart block alone.

    The timespec lies in the code, which the kernel cannot write to, so an interruption ends the wait for good (EINTR).
    """
    before = _mov32(eax=SYS_pselect6, edi=0, esi=0, edx=0, r10d=0, r9d=0)
    skip = b"\xeb\x10" + struct.pack("<qq", PATIENCE_NS // 10**9, PATIENCE_NS % 10**9)  # jmp over the timespec
    back = -(16 + len(before) + 7)
    return skip + before + b"\x4c\x8d\x05" + struct.pack("<i", back) + SYSCALL  # lea r8, [rip + back]


# mov rcx, r12; jrcxz out; load number and arguments from [r13]; syscall; mov [r13+56], rax; next; jmp loop
_ENTRY_CALL = (
    b"\x49\x8b\x45\x00\x49\x8b\x7d\x08\x49\x8b\x75\x10\x49\x8b\x55\x18\x4d\x8b\x55\x20\x4d\x8b\x45\x28\x4d\x8b\x4d\x30"
    + SYSCALL
    + b"\x49\x89\x45\x38\x4d\x8d\x6d\x40\x4d\x8d\x64\x24\xff"
)


def run_loop() -> bytes:
    """Make r12 calls from the table at r13, storing each result in its entry."""
    body = b"\x4c\x89\xe1\xe3" + bytes([len(_ENTRY_CALL) + 2]) + _ENTRY_CALL
    return body + b"\xeb" + struct.pack("<b", -(len(body) + 2))


def table_program(end: bytes, length: int) -> bytes:
    """mmap a scratch area (arguments already in the registers), run the table found there, wait, munmap it.

    A tracer that dies before it has written the table leaves a count of zero: nothing but mmap and munmap happens.
    """
    return _table_main(length) + end


@cache
def _table_main(length: int) -> bytes:
    main = (
        b"\x4c\x8b\x23\x4c\x8d\x6b\x40"  # mov r12, [rbx]; lea r13, [rbx + 64]
        + run_loop()
        + b"\x48\xc7\x43\x08\x01\x00\x00\x00"  # mov qword [rbx + 8], 1: done
        + _wait()
        + b"\x48\x89\xdf"  # mov rdi, rbx
        + _mov32(esi=length, eax=SYS_munmap)
        + SYSCALL
    )
    # mov rbx, rax; the top byte of an address is 0, of -errno 0xff: bswap rax; movzx ecx, al; jrcxz main; jmp end
    check = b"\x48\x89\xc3\x48\x0f\xc8\x0f\xb6\xc8\xe3\x05\xe9" + struct.pack("<i", len(main))
    return SYSCALL + check + main


def _slot() -> int:
    program = table_program(leave(Registers.unpack(bytes(REGISTERS_SIZE)), 0), 0)
    return -(-len(program) // CODE_ALIGN) * CODE_ALIGN


TABLE_PROGRAM_SIZE = _slot()
"""Room that a table's program takes, whatever its registers are."""
