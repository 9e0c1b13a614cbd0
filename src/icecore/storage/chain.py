# SPDX-License-Identifier: Apache-2.0
"""A chain: the layers of one target, oldest to newest, and its head."""

import json
from pathlib import Path
from typing import Final, cast

from icecore.errors import NoSuchCheckpoint, StoreCorrupt
from icecore.storage.durable import replace_file, store_errors
from icecore.storage.layer import LayerInfo
from icecore.storage.layer_writer import LayerWriter
from icecore.storage.layers import Layers
from icecore.storage.reader import CheckpointReader
from icecore.storage.write_session import WriteSession

STATE: Final = "chain.json"


class Chain:
    """Any number of readers, one writer at a time."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.name = name
        self._layers = Layers(directory, name)

    def layers(self) -> list[LayerInfo]:
        """Oldest first. Raises StoreCorrupt, StoreUnusable."""
        return [self._layers.info(layer_id) for layer_id in self._layers.ids()]

    def newest(self) -> LayerInfo | None:
        """None if nothing was ever committed."""
        return self._layers.newest()

    def info(self, layer_id: int) -> LayerInfo:
        """Raises NoSuchCheckpoint, StoreCorrupt, StoreUnusable."""
        return self._layers.info(layer_id)

    def writer(self, force_keyframe: bool = False) -> LayerWriter:
        """Begin the next layer: a delta if there is a parent and no keyframe is wanted.

        Raises Busy naming the process that holds the lock, StoreUnusable, and StoreCorrupt if the head must be made
        anew from layers that are damaged: a keyframe can still be written then.
        """
        session = WriteSession(self._layers, force_keyframe)
        try:
            return LayerWriter(session)
        except BaseException:
            session.close()
            raise

    def reader(self, layer_id: int | None = None) -> CheckpointReader:
        """Open a checkpoint, the newest by default. Raises NoSuchCheckpoint, StoreCorrupt, StoreUnusable."""
        if layer_id is None:
            newest = self.newest()
            if newest is None:
                raise NoSuchCheckpoint(
                    f"chain {self.name} has no checkpoint yet", f"icecore checkpoint PID --name {self.name}"
                )
            layer_id = newest.id
        return CheckpointReader(self._layers, layer_id)

    def ended(self) -> int | None:
        """The status with which the job ended by itself, None if it did not. Raises StoreCorrupt, StoreUnusable."""
        path = self.directory / STATE
        try:
            with store_errors(path):
                state: object = json.loads(path.read_bytes()) if path.exists() else {}
        except (ValueError, RecursionError):
            state = None
        status = cast("dict[str, object]", state).get("ended") if isinstance(state, dict) else ""
        if status is not None and type(status) is not int:
            raise StoreCorrupt(f"chain {self.name}, {STATE}: damaged", f"remove {path}: it only says how the job ended")
        return status

    def set_ended(self, status: int | None) -> None:
        """Remember it, or forget it with None. Raises StoreUnusable."""
        path = self.directory / STATE
        with store_errors(path):
            replace_file(path, json.dumps({"ended": status}).encode() + b"\n")
