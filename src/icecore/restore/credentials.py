# SPDX-License-Identifier: Apache-2.0
"""User, groups and capabilities. Each thread has its own, so each sets them, last of all, from within."""

import struct

from icecore.kernel.arch.x86_64 import (
    SYS_capset,
    SYS_prctl,
    SYS_setfsgid,
    SYS_setfsuid,
    SYS_setgroups,
    SYS_setresgid,
    SYS_setresuid,
)
from icecore.kernel.prctl import (
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_CAP_AMBIENT_RAISE,
    PR_CAPBSET_DROP,
    PR_SET_KEEPCAPS,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_SECUREBITS,
)
from icecore.kernel.procfs import Status
from icecore.restore.calls import Calls
from icecore.storage.records import Credentials

CAPABILITIES = 64
_VERSION_3 = 0x20080522
_HEADER = struct.pack("<Ii", _VERSION_3, 0)
_SETS = struct.Struct("<6I")
_LOW = (1 << 32) - 1


def set_credentials(calls: Calls, now: Status, wanted: Credentials) -> None:
    """List what leads from the stub's credentials to the wanted ones; nothing where they are the same."""
    if now.groups != wanted.groups:
        groups = struct.pack(f"<{len(wanted.groups)}I", *wanted.groups)
        calls.add("set the supplementary groups", SYS_setgroups, len(wanted.groups), groups)
    for cap in _bits(now.cap_bnd & ~wanted.cap_bounding):
        calls.add(f"drop capability {cap} from the bounding set", SYS_prctl, PR_CAPBSET_DROP, cap, 0, 0, 0)
    ids_differ = (now.uids, now.gids) != (wanted.uids, wanted.gids)
    if ids_differ:
        _set_ids(calls, now, wanted)
    if wanted.securebits:
        calls.add("set the secure bits", SYS_prctl, PR_SET_SECUREBITS, wanted.securebits, 0, 0, 0)
    if ids_differ or _sets(now) != _wanted_sets(wanted):
        _set_capabilities(calls, wanted)
    if wanted.no_new_privs and not now.no_new_privs:
        calls.add("set no_new_privs", SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _set_ids(calls: Calls, now: Status, wanted: Credentials) -> None:
    """Permitted capabilities are kept over the change (PR_SET_KEEPCAPS), to set the rest with."""
    calls.add("keep capabilities", SYS_prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0)
    calls.add(f"set the group to {wanted.gids[1]}", SYS_setresgid, *wanted.gids[:3])
    calls.add(f"set the user to {wanted.uids[1]}", SYS_setresuid, *wanted.uids[:3])
    everything = _pack(now.cap_prm, now.cap_prm, now.cap_inh)
    calls.add("raise capabilities", SYS_capset, _HEADER, everything)
    calls.add("set the file system group", SYS_setfsgid, wanted.gids[3])
    calls.add("set the file system user", SYS_setfsuid, wanted.uids[3])
    calls.add("keep no capabilities", SYS_prctl, PR_SET_KEEPCAPS, 0, 0, 0, 0)


def _set_capabilities(calls: Calls, wanted: Credentials) -> None:
    packed = _pack(wanted.cap_effective, wanted.cap_permitted, wanted.cap_inheritable)
    calls.add("set the capabilities", SYS_capset, _HEADER, packed)
    calls.add("clear ambient capabilities", SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    for cap in _bits(wanted.cap_ambient):
        calls.add(f"raise ambient capability {cap}", SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0)


def _pack(effective: int, permitted: int, inheritable: int) -> bytes:
    sets = (effective, permitted, inheritable)
    return _SETS.pack(*(s & _LOW for s in sets), *(s >> 32 for s in sets))


def _bits(mask: int) -> list[int]:
    return [bit for bit in range(CAPABILITIES) if mask >> bit & 1]


def _sets(now: Status) -> tuple[int, int, int, int]:
    return now.cap_inh, now.cap_prm, now.cap_eff, now.cap_amb


def _wanted_sets(wanted: Credentials) -> tuple[int, int, int, int]:
    return wanted.cap_inheritable, wanted.cap_permitted, wanted.cap_effective, wanted.cap_ambient
