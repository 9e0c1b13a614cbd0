# SPDX-License-Identifier: Apache-2.0
"""The store as callers may see it: every chain belongs to one uid, that of its target when the chain was made.

``owner.json`` in the chain's directory says so. A chain without it, made by hand or by ``icecore run``, belongs to
whoever owns the directory. All of this blocks: call it in a thread.
"""

import json
import os
from contextlib import suppress

from icecore.daemon.service.authorise import ROOT, Owner, may_see, require_chain, require_same_owner
from icecore.errors import NoSuchCheckpoint, StoreCorrupt
from icecore.storage.chain import Chain
from icecore.storage.durable import replace_file, store_errors
from icecore.storage.layer import LayerInfo
from icecore.storage.store import Store
from icecore.varlink.service import Peer

OWNER_FILE = "owner.json"


class Chains:
    """The chains of one store, with their owners."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def claim(self, name: str, owner: Owner) -> tuple[Chain, bool]:
        """The chain ``name`` for a process of ``owner``, and whether it was made just now; NotPermitted if it is
        another user's. An empty chain is anybody's: a daemon died before its first checkpoint."""
        try:
            chain, new = self._store.chain(name), False
        except NoSuchCheckpoint:
            chain, new = self._store.create_chain(name), True
        if new or (owner_of(chain) != owner.uid and not chain.layers()):
            set_owner(chain, owner.uid)
        require_same_owner(name, owner_of(chain), owner)
        return chain, new

    def remove_empty(self, chain: Chain) -> None:
        """Takes back a chain that ``claim`` made, if nothing came of it: no layer, not even a lock."""
        with suppress(OSError):
            if os.listdir(chain.directory) == [OWNER_FILE]:
                (chain.directory / OWNER_FILE).unlink()
                chain.directory.rmdir()

    def names(self, peer: Peer) -> list[str]:
        """The chains that ``peer`` may see."""
        return [name for name in self._store.names() if may_see(peer, self._owner_or_root(name))]

    def _owner_or_root(self, name: str) -> int:
        """A chain that has just gone, or whose owner cannot be read, spoils the list for nobody."""
        try:
            return owner_of(self._store.chain(name))
        except (NoSuchCheckpoint, StoreCorrupt):
            return ROOT

    def layers(self, peer: Peer, name: str) -> tuple[int, list[LayerInfo]]:
        """Owner and checkpoints of a chain, oldest first; NoSuchCheckpoint if ``peer`` may not see it."""
        chain = self._store.chain(name)
        owner = require_chain(peer, name, owner_of(chain))
        return owner, chain.layers()


def owner_of(chain: Chain) -> int:
    """The uid that a chain belongs to."""
    path = chain.directory / OWNER_FILE
    try:
        uid = json.loads(path.read_bytes())["uid"]
    except FileNotFoundError:
        return os.stat(chain.directory).st_uid
    except (ValueError, TypeError, KeyError) as error:
        raise StoreCorrupt(f"chain {chain.name}: {OWNER_FILE} is damaged", 'write it anew: {"uid": UID}') from error
    if not isinstance(uid, int):
        raise StoreCorrupt(f"chain {chain.name}: {OWNER_FILE} names no uid", 'write it anew: {"uid": UID}')
    return uid


def set_owner(chain: Chain, uid: int) -> None:
    """Whole or not at all: a crash leaves the old owner."""
    path = chain.directory / OWNER_FILE
    with store_errors(path):
        replace_file(path, json.dumps({"uid": uid}).encode("ascii"))
