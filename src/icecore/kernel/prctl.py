# SPDX-License-Identifier: Apache-2.0
"""prctl(2): the constants of linux/prctl.h that restoring needs, and struct prctl_mm_map.

The calls themselves are made inside the process being restored, by injection, so there is no wrapper here.
"""

import struct
from dataclasses import dataclass

PR_SET_PDEATHSIG = 1
PR_GET_PDEATHSIG = 2
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_GET_KEEPCAPS = 7
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_GET_NAME = 16
PR_GET_SECCOMP = 21
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_GET_SECUREBITS = 27
PR_SET_SECUREBITS = 28
PR_SET_TIMERSLACK = 29
PR_GET_TIMERSLACK = 30
PR_SET_MM = 35
PR_SET_CHILD_SUBREAPER = 36
PR_GET_CHILD_SUBREAPER = 37
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39
PR_GET_TID_ADDRESS = 40
PR_SET_THP_DISABLE = 41
PR_GET_THP_DISABLE = 42
PR_CAP_AMBIENT = 47
PR_SET_VMA = 0x53564D41
PR_SET_MEMORY_MERGE = 67
PR_GET_MEMORY_MERGE = 68

PR_SET_MM_MAP = 14
PR_SET_MM_MAP_SIZE = 15
PR_CAP_AMBIENT_IS_SET = 1
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_LOWER = 3
PR_CAP_AMBIENT_CLEAR_ALL = 4
PR_SET_VMA_ANON_NAME = 0
NO_EXE_FD = 0xFFFF_FFFF
"""``exe_fd`` of MmMap that leaves /proc/PID/exe as it is."""

_MM_MAP = struct.Struct("=12QII")
MM_MAP_SIZE = _MM_MAP.size


@dataclass(frozen=True, slots=True, kw_only=True)
class MmMap:
    """struct prctl_mm_map; ``auxv`` and its size in bytes are an address in the process that makes the call."""

    start_code: int
    end_code: int
    start_data: int
    end_data: int
    start_brk: int
    brk: int
    start_stack: int
    arg_start: int
    arg_end: int
    env_start: int
    env_end: int
    auxv: int
    auxv_size: int
    exe_fd: int = NO_EXE_FD

    def pack(self) -> bytes:
        """The MM_MAP_SIZE bytes that PR_SET_MM_MAP takes."""
        return _MM_MAP.pack(
            self.start_code, self.end_code, self.start_data, self.end_data, self.start_brk, self.brk,
            self.start_stack, self.arg_start, self.arg_end, self.env_start, self.env_end, self.auxv,
            self.auxv_size, self.exe_fd,
        )  # fmt: skip
