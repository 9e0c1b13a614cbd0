# SPDX-License-Identifier: Apache-2.0
"""The right to write the next layer of a chain: its lock, its place in the chain and the head it is compared with."""

from pathlib import Path

from icecore.errors import StoreCorrupt
from icecore.storage import head
from icecore.storage.durable import remove_leftovers, store_errors
from icecore.storage.image import Image
from icecore.storage.layer import LayerInfo
from icecore.storage.layers import Layers
from icecore.storage.lock import LOCK, WriteLock
from icecore.storage.replay import advance_head, current_head


class WriteSession:
    """Holds the lock until ``close``."""

    def __init__(self, layers: Layers, force_keyframe: bool) -> None:
        """Raises Busy, StoreUnusable, StoreCorrupt."""
        self._layers = layers
        self.directory: Path = layers.directory
        with store_errors(self.directory):
            self._lock = WriteLock(self.directory / LOCK, f"chain {layers.chain}")
        self.head: Image | None = None
        """As of ``parent``; None if a keyframe is to be written."""
        try:
            with store_errors(self.directory):
                remove_leftovers(self.directory)
            self.parent = _parent(layers, force_keyframe)
            self.id = max(layers.ids(), default=0) + 1
            if self.parent is not None and not force_keyframe:
                self.head = current_head(layers, self.parent)
        except BaseException:
            self.close()
            raise

    @property
    def file_name(self) -> str:
        """Of the layer to be written."""
        return self._layers.file_name(self.id)

    def advance_head(self, info: LayerInfo, *, damaged: bool) -> None:
        """Call when the layer is linked. A head in which a damaged page was found is made anew by the next writer."""
        advance_head(self._layers, self.head, info)
        if damaged:
            head.forget(self.directory)

    def close(self) -> None:
        """May be called twice."""
        if self.head is not None:
            self.head.close()
        self._lock.release()


def _parent(layers: Layers, force_keyframe: bool) -> LayerInfo | None:
    try:
        return layers.newest()
    except StoreCorrupt:
        # a keyframe needs no parent: the way to go on after one that is damaged
        if not force_keyframe:
            raise
        return None
