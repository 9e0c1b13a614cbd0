# SPDX-License-Identifier: Apache-2.0
"""The process as a whole: credentials, limits, the fields of its memory map, and the machine it runs on."""

import os
from functools import cache

from blake3 import blake3

from icecore.inject.vdso import own_vdso
from icecore.kernel import procfs
from icecore.kernel.procfs import Stat, Status
from icecore.storage.records import Credentials, Limit, MmFields

LIMIT_NAME_WIDTH = 26
UNLIMITED = -1


def credentials(status: Status, securebits: int) -> Credentials:
    """From /proc/PID/status."""
    return Credentials(
        uids=status.uids,
        gids=status.gids,
        groups=status.groups,
        cap_inheritable=status.cap_inh,
        cap_permitted=status.cap_prm,
        cap_effective=status.cap_eff,
        cap_bounding=status.cap_bnd,
        cap_ambient=status.cap_amb,
        no_new_privs=status.no_new_privs,
        securebits=securebits,
    )


def limits(pid: int) -> tuple[Limit, ...]:
    """From /proc/PID/limits, whose lines are in the order of the RLIMIT_* numbers.

    Not by prlimit(2), which needs CAP_SYS_RESOURCE for another user's process even if all else is allowed.
    """
    lines = procfs.read_text(pid, "limits").splitlines()[1:]
    pairs = (line[LIMIT_NAME_WIDTH:].split()[:2] for line in lines)
    return tuple(
        Limit(resource=number, soft=limit_value(soft), hard=limit_value(hard))
        for number, (soft, hard) in enumerate(pairs)
    )


def limit_value(text: str) -> int:
    return UNLIMITED if text == "unlimited" else int(text)


def mm_fields(pid: int, stat: Stat, brk: int) -> MmFields:
    """struct mm_struct's idea of the program: what /proc shows as arguments, environment, heap and stack."""
    return MmFields(
        start_code=stat.start_code,
        end_code=stat.end_code,
        start_data=stat.start_data,
        end_data=stat.end_data,
        start_brk=stat.start_brk,
        brk=brk,
        start_stack=stat.start_stack,
        arg_start=stat.arg_start,
        arg_end=stat.arg_end,
        env_start=stat.env_start,
        env_end=stat.env_end,
        auxv=procfs.read_auxv(pid),
    )


@cache
def vdso_digest() -> bytes:
    """blake3 of the vdso without its unused tail. All 64-bit processes of a machine have one image, so ours will do:
    the target's tail may hold injected code."""
    return blake3(own_vdso().image.rstrip(b"\0")).digest()


@cache
def machine() -> os.uname_result:
    """Kernel release, machine and host name."""
    return os.uname()
