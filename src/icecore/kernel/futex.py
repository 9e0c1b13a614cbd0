# SPDX-License-Identifier: Apache-2.0
"""get_robust_list(2). Nothing else of futexes: they live in the target's memory."""

import ctypes

from icecore.kernel.arch.x86_64 import SYS_get_robust_list
from icecore.kernel.libc import syscall_keeping_gil

ROBUST_LIST_HEAD_SIZE = 24


def get_robust_list(tid: int) -> tuple[int, int]:
    """``(head, length)``: the address of a thread's struct robust_list_head (0: none) and its size in bytes."""
    head, length = ctypes.c_ulong(), ctypes.c_ulong()
    where = (ctypes.addressof(head), ctypes.addressof(length))
    syscall_keeping_gil(SYS_get_robust_list, tid, *where, what=f"get_robust_list of {tid}")
    return head.value, length.value
