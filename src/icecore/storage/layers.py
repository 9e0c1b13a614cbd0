# SPDX-License-Identifier: Apache-2.0
"""The layer files of one chain: which there are, what is known about each, in which order they must be applied."""

import os
import re
from pathlib import Path
from typing import Final

from icecore.storage import layer
from icecore.storage.durable import store_errors
from icecore.storage.layer import LayerInfo
from icecore.storage.layer_reader import LayerReader

_Identity = tuple[int, int, int] | None
_NAME: Final = re.compile(r"([0-9]{8,})\.layer")


class Layers:
    """Readers need no lock: a layer never changes. What is known about each is remembered."""

    def __init__(self, directory: Path, chain: str) -> None:
        self.directory = directory
        self.chain = chain
        self._infos: dict[int, tuple[_Identity, LayerInfo]] = {}

    def ids(self) -> list[int]:
        """Oldest first."""
        with store_errors(self.directory):
            names = os.listdir(self.directory)
        return sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)) is not None)

    def open(self, layer_id: int) -> LayerReader:
        """Raises NoSuchCheckpoint, StoreCorrupt, StoreUnusable."""
        return LayerReader(self.directory / self.file_name(layer_id), self.chain, layer_id)

    def info(self, layer_id: int) -> LayerInfo:
        """Raises like ``open``."""
        with store_errors(self.directory):
            identity = _identity(self.directory / self.file_name(layer_id))
        known = self._infos.get(layer_id)
        if known is not None and known[0] == identity:
            return known[1]
        with self.open(layer_id) as reader:
            self._infos[layer_id] = (identity, reader.info)
            return reader.info

    def newest(self) -> LayerInfo | None:
        """None if there is none yet."""
        ids = self.ids()
        return self.info(ids[-1]) if ids else None

    def since_keyframe(self, layer_id: int) -> list[int]:
        """The ids to apply in order, from the nearest keyframe to ``layer_id``. Raises StoreCorrupt if one is missing
        or is not the one that its child names."""
        path = [self.info(layer_id)]
        while path[0].kind != layer.KEYFRAME:
            path.insert(0, self._parent(path[0]))
        return [info.id for info in path]

    def file_name(self, layer_id: int) -> str:
        """Ids have at least eight digits, so that names sort."""
        return f"{layer_id:08d}.layer"

    def _parent(self, child: LayerInfo) -> LayerInfo:
        older = [layer_id for layer_id in self.ids() if layer_id < child.id]
        if older:
            parent = self.info(older[-1])
            if parent.digest == child.parent:
                return parent
        with self.open(child.id) as reader:
            raise reader.corrupt(0, f"its parent, digest {child.parent[:16]}..., is not the layer before it")


def _identity(path: Path) -> _Identity:
    """Tells a layer from another one that has taken its name, when a chain was removed and begun again."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
