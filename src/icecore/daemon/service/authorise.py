# SPDX-License-Identifier: Apache-2.0
"""Who may do what: root everything, others what the kernel would let them ptrace (ptrace(2), "access mode checking").

A process belongs to the uid that all its uids agree on, provided that it is no setgid program, holds no capability
and is dumpable; else to root. A chain belongs to the uid that owned its target when the chain was made. The caller is
the peer as of connect(2) (SO_PEERCRED). Yama is not consulted: a process need not be the caller's child.
"""

import os
from dataclasses import dataclass

from icecore.daemon.service.ports import Target
from icecore.errors import NoSuchCheckpoint, NoSuchProcess, NotPermitted
from icecore.kernel.procfs import read_status
from icecore.varlink.service import Peer

ROOT = 0


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a process is: uid, and the gid that its callers must have."""

    uid: int
    gid: int


def owner_of(target: Target) -> Owner:
    """Who owns ``target`` at this moment. Raises NoSuchProcess when it is gone."""
    try:
        status = read_status(target.pid)
        files_of = os.stat(f"/proc/{target.pid}/mem").st_uid  # root's, when the process is not dumpable (proc(5))
    except (FileNotFoundError, ProcessLookupError) as error:
        raise _gone(target) from error
    if not target.alive():  # the pid may have been another's already
        raise _gone(target)
    plain = len({*status.uids}) == 1 and len({*status.gids}) == 1 and not status.cap_prm and files_of == status.uids[0]
    return Owner(status.uids[0], status.gids[0]) if plain else Owner(ROOT, ROOT)


def require_target(peer: Peer, target: Target) -> Owner:
    """The owner of ``target``, who must be the caller unless that is root; else NotPermitted."""
    owner = owner_of(target)
    if peer.uid != ROOT and (peer.uid, peer.gid) != (owner.uid, owner.gid):
        raise NotPermitted(
            f"process {target.pid} ({target.comm}) does not belong to uid {peer.uid}",
            "ask as its owner (same uid and gid, no setuid program, no capabilities) or as root",
        )
    return owner


def require_unchanged(target: Target, chain_owner: int) -> None:
    """Before every checkpoint: a target that became somebody else's (a setuid exec) is not written into this chain."""
    owner = owner_of(target).uid
    if chain_owner not in (ROOT, owner):
        raise NotPermitted(
            f"process {target.pid} ({target.comm}) no longer belongs to uid {chain_owner} but to uid {owner}",
            "track it anew, under another name, as its owner or as root",
        )


def may_see(peer: Peer, chain_owner: int) -> bool:
    """Whether the chain exists, as far as this caller is concerned."""
    return peer.uid in (ROOT, chain_owner)


def require_chain(peer: Peer, name: str, chain_owner: int | None) -> int:
    """The owner of an existing chain that the caller may see. Others' chains look as if they did not exist."""
    if chain_owner is None or not may_see(peer, chain_owner):
        raise NoSuchCheckpoint(f"no chain named {name}", "icecore status lists those that you may see")
    return chain_owner


def require_same_owner(name: str, chain_owner: int, owner: Owner) -> None:
    """A chain holds the memory of one user's processes only, even if root asks otherwise."""
    if chain_owner != owner.uid:
        raise NotPermitted(
            f"the name {name} is taken by a chain of another user than that of the process", "give another name"
        )


def _gone(target: Target) -> NoSuchProcess:
    return NoSuchProcess(f"process {target.pid} ({target.comm}) is gone", "give the pid of a running process")
