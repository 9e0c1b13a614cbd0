# SPDX-License-Identifier: Apache-2.0
"""Calls that a stop would make fail with EINTR although no signal came, and that may wait on instead.

signal(7) lists the calls that are not restarted after a stop. A waiting thread would see an error that nobody meant for
it. Those without a time-out can simply be made again; one with a time-out is left alone, since it would start over.
"""

import errno

from icecore.inject.code import ERESTARTNOHAND
from icecore.kernel.arch.x86_64 import (
    Registers,
    SYS_epoll_pwait,
    SYS_epoll_pwait2,
    SYS_epoll_wait,
    SYS_rt_sigtimedwait,
)

INT_MASK = 0xFFFF_FFFF


def waits_for_ever(registers: Registers) -> bool:
    """Whether the thread stopped in such a call, waiting without a time-out."""
    if registers.result != -errno.EINTR:
        return False
    number = registers.orig_rax
    if number in (SYS_epoll_wait, SYS_epoll_pwait):
        return registers.r10 & INT_MASK == INT_MASK  # int timeout = -1
    if number == SYS_epoll_pwait2:
        return registers.r10 == 0  # no timespec
    return number == SYS_rt_sigtimedwait and registers.rdx == 0


def make_restartable(registers: Registers) -> Registers:
    """As if the call were one that the kernel restarts: EINTR if a signal is delivered, else it is made again."""
    registers.rax = -ERESTARTNOHAND & (1 << 64) - 1
    return registers
