# SPDX-License-Identifier: Apache-2.0
"""The small files of /proc/PID: threads, children, links, auxv, namespaces.

Resource limits are not here: ``resource.prlimit`` reads those of another process.
"""

import os
from contextlib import suppress

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts")
_EI_CLASS = 4
_ELF_CLASS = {1: 32, 2: 64}


def read_text(pid: int, name: str) -> str:
    """All of /proc/PID/NAME."""
    return os.fsdecode(read_bytes(pid, name))


def read_bytes(pid: int, name: str) -> bytes:
    """All of /proc/PID/NAME. ENOENT, ESRCH: the process is gone; EACCES, EPERM: not ours to read."""
    with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
        return file.readall() or b""


def thread_ids(pid: int) -> list[int]:
    """The threads, ascending (the leader is not always the first: tids wrap)."""
    return sorted(map(int, os.listdir(f"/proc/{pid}/task")))


def children(pid: int) -> list[int]:
    """The child processes of all threads; one that is being born or dying may be missing."""
    found: list[int] = []
    for tid in thread_ids(pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            found += map(int, read_bytes(pid, f"task/{tid}/children").split())
    return sorted(found)


def exe(pid: int) -> str:
    """The program's path, " (deleted)" included. ENOENT: a kernel thread or a zombie."""
    return os.readlink(f"/proc/{pid}/exe")


def cwd(pid: int) -> str:
    """The working directory."""
    return os.readlink(f"/proc/{pid}/cwd")


def root(pid: int) -> str:
    """The root directory."""
    return os.readlink(f"/proc/{pid}/root")


def read_cmdline(pid: int) -> tuple[str, ...]:
    """The arguments, as the process shows them now."""
    text = read_bytes(pid, "cmdline").removesuffix(b"\0")
    return tuple(map(os.fsdecode, text.split(b"\0"))) if text else ()


def read_auxv(pid: int) -> bytes:
    """The auxiliary vector as it is in the kernel: pairs of u64, up to and with AT_NULL."""
    return read_bytes(pid, "auxv")


def read_personality(pid: int) -> int:
    """personality(2) flags."""
    return int(read_bytes(pid, "personality"), 16)


def namespaces(pid: int) -> dict[str, int]:
    """The inode number of each namespace that this kernel has, by the names in NAMESPACES."""
    found: dict[str, int] = {}
    for name in NAMESPACES:
        with suppress(FileNotFoundError):
            found[name] = os.stat(f"/proc/{pid}/ns/{name}").st_ino
    return found


def elf_class(pid: int) -> int:
    """32 or 64: what the program file was built for."""
    fd = os.open(f"/proc/{pid}/exe", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _ELF_CLASS[os.pread(fd, _EI_CLASS + 1, 0)[_EI_CLASS]]
    finally:
        os.close(fd)


def posix_timers(pid: int) -> str:
    """The text of /proc/PID/timers: empty if there is no timer_create(2) timer."""
    return read_text(pid, "timers")
