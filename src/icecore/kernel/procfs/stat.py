# SPDX-License-Identifier: Apache-2.0
"""/proc/PID/stat: one line of numbers. Fields are numbered in proc_pid_stat(5)."""

import errno
import os
from dataclasses import dataclass

PF_KTHREAD = 0x0020_0000


@dataclass(frozen=True, slots=True)
class Stat:
    """What a checkpoint needs of /proc/PID/stat; the addresses are 0 unless we may ptrace the process."""

    pid: int
    comm: str
    state: str
    """R running, S sleeping, D waiting for disk, T stopped, t traced, Z zombie, X dead, I idle kernel thread."""
    ppid: int
    pgrp: int
    session: int
    tty_nr: int
    flags: int
    num_threads: int
    start_time: int
    """Clock ticks since boot: with the pid, the identity of a process."""
    start_code: int
    end_code: int
    start_stack: int
    start_data: int
    end_data: int
    start_brk: int
    arg_start: int
    arg_end: int
    env_start: int
    env_end: int
    exit_code: int


def read_stat(pid: int, tid: int | None = None) -> Stat:
    """Of a process, or of one of its threads. ENOENT, ESRCH: it is gone."""
    where = f"/proc/{pid}/stat" if tid is None else f"/proc/{pid}/task/{tid}/stat"
    with open(where, "rb", buffering=0) as file:
        return parse_stat(file.read(4096) or b"")


def parse_stat(line: bytes) -> Stat:
    """``comm`` may hold spaces and parentheses: it ends at the last one."""
    head, _, tail = line.rpartition(b")")
    pid, _, comm = head.partition(b" (")
    f = [*([b""] * 3), *tail.split()]
    numbers = [int(f[n]) for n in (4, 5, 6, 7, 9, 20, 22, 26, 27, 28, 45, 46, 47, 48, 49, 50, 51, 52)]
    return Stat(int(pid), os.fsdecode(comm), f[3].decode(), *numbers)


def same_process(pid: int, start_time: int) -> bool:
    """Whether ``pid`` is still (a zombie included) the process that started at ``start_time``."""
    try:
        return read_stat(pid).start_time == start_time
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH):
            return False
        raise


def is_kernel_thread(pid: int) -> bool:
    """A process without an address space of its own."""
    return bool(read_stat(pid).flags & PF_KTHREAD)
