# SPDX-License-Identifier: Apache-2.0
"""/proc/PID/status and /proc/PID/task/TID/status, typed."""

import os
from dataclasses import dataclass

Ids = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Status:
    """Names as in the file; masks are bit sets with bit n-1 for signal n, bit n for capability n."""

    name: str
    umask: int
    state: str
    tgid: int
    pid: int
    ppid: int
    tracer_pid: int
    uids: Ids
    """Real, effective, saved, file system."""
    gids: Ids
    groups: tuple[int, ...]
    ns_pid: tuple[int, ...]
    """The pid in each nested pid namespace, outermost first."""
    sig_pnd: int
    shd_pnd: int
    sig_blk: int
    sig_ign: int
    sig_cgt: int
    cap_inh: int
    cap_prm: int
    cap_eff: int
    cap_bnd: int
    cap_amb: int
    no_new_privs: bool
    seccomp: int
    """SECCOMP_MODE_*."""
    seccomp_filters: int
    vm_pin_kb: int
    """KiB of memory pinned for devices; 0 also for kernel threads and zombies."""
    threads: int
    kthread: bool
    x86_thread_features: tuple[str, ...]
    """"shstk" and others."""


def read_status(pid: int, tid: int | None = None) -> Status:
    """Of a process, or of one of its threads. ENOENT, ESRCH: it is gone."""
    where = f"/proc/{pid}/status" if tid is None else f"/proc/{pid}/task/{tid}/status"
    with open(where, "rb", buffering=0) as file:
        return parse_status(file.readall() or b"")


def parse_status(text: bytes) -> Status:
    """Fields that this kernel does not print are 0 or empty."""
    fields = _fields(text)

    def number(key: str, base: int = 10) -> int:
        value = fields.get(key, "").split()
        return int(value[0], base) if value else 0

    def numbers(key: str) -> tuple[int, ...]:
        return tuple(map(int, fields.get(key, "").split()))

    return Status(
        name=fields.get("Name", ""),
        umask=number("Umask", 8),
        state=fields.get("State", "")[:1],
        tgid=number("Tgid"),
        pid=number("Pid"),
        ppid=number("PPid"),
        tracer_pid=number("TracerPid"),
        uids=_four(numbers("Uid")),
        gids=_four(numbers("Gid")),
        groups=numbers("Groups"),
        ns_pid=numbers("NSpid"),
        sig_pnd=number("SigPnd", 16),
        shd_pnd=number("ShdPnd", 16),
        sig_blk=number("SigBlk", 16),
        sig_ign=number("SigIgn", 16),
        sig_cgt=number("SigCgt", 16),
        cap_inh=number("CapInh", 16),
        cap_prm=number("CapPrm", 16),
        cap_eff=number("CapEff", 16),
        cap_bnd=number("CapBnd", 16),
        cap_amb=number("CapAmb", 16),
        no_new_privs=bool(number("NoNewPrivs")),
        seccomp=number("Seccomp"),
        seccomp_filters=number("Seccomp_filters"),
        vm_pin_kb=number("VmPin"),
        threads=number("Threads"),
        kthread=bool(number("Kthread")),
        x86_thread_features=tuple(fields.get("x86_Thread_features", "").split()),
    )


def _fields(text: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in os.fsdecode(text).split("\n"))
    return {key: value.removeprefix("\t") for key, _, value in pairs}


def _four(values: tuple[int, ...]) -> Ids:
    real, effective, saved, file_system = values
    return real, effective, saved, file_system


def read_vm_pin_kb(pid: int) -> int:
    """VmPin alone: quick enough for a frozen target."""
    with open(f"/proc/{pid}/status", "rb", buffering=0) as file:
        _, found, rest = (file.readall() or b"").partition(b"\nVmPin:")
    return int(rest.split(None, 1)[0]) if found else 0
