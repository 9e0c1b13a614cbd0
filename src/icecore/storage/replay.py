# SPDX-License-Identifier: Apache-2.0
"""Layers applied one after the other: to a throw-away image for an older checkpoint, or to the head to catch up."""

import os
import tempfile
from pathlib import Path

from icecore.errors import Busy, StoreUnusable
from icecore.storage import head
from icecore.storage.durable import store_errors
from icecore.storage.image import EMPTY_MAP, Image, TornPages
from icecore.storage.layer import KEYFRAME, LayerInfo
from icecore.storage.layers import Layers
from icecore.storage.lock import LOCK, WriteLock
from icecore.storage.page_file import PageFile


def replay(layers: Layers, layer_id: int) -> Image:
    """The image of a checkpoint in a temporary file without a name. Raises StoreCorrupt, StoreUnusable."""
    path = layers.since_keyframe(layer_id)
    with store_errors(layers.directory):
        image = Image(PageFile(_temporary(layers.directory)), EMPTY_MAP)
        return _apply(layers, path, image)


def current_head(layers: Layers, newest: LayerInfo) -> Image:
    """The head as of ``newest``: what a crash left undone is finished, what is damaged or missing is made anew.

    Needs the write lock. Raises StoreCorrupt, StoreUnusable.
    """
    with store_errors(layers.directory):
        image = head.load(layers.directory, writable=True)
        if image is not None and image.map.digest == newest.digest:
            return image
        return _catch_up(layers, image, newest) if image is not None else _make_anew(layers, newest)


def advance_head(layers: Layers, image: Image | None, newest: LayerInfo) -> None:
    """Apply the layer just written to the head before it. Needs the write lock.

    The checkpoint is durable already: a disk that is full now leaves the head behind, and the next writer finishes it.
    """
    try:
        if newest.kind == KEYFRAME:
            image = head.create(layers.directory)
        if image is not None:
            _apply_and_save(layers, [newest.id], image)
    except TornPages:
        head.forget(layers.directory)
    except (OSError, StoreUnusable):
        return
    finally:
        if image is not None:
            image.close()


def forget_damaged_head(layers: Layers, of: LayerInfo) -> None:
    """Have the next writer make the head anew, for a reader that found it damaged; unless it has only moved on, or
    somebody writes, or the store is read-only."""
    try:
        lock = WriteLock(layers.directory / LOCK, layers.chain)
    except (Busy, OSError):
        return
    try:
        image = head.load(layers.directory, writable=False)
        if image is not None:
            image.close()
            if image.map.digest == of.digest:
                head.forget(layers.directory)
    except OSError:
        return
    finally:
        lock.release()


def _catch_up(layers: Layers, image: Image, newest: LayerInfo) -> Image:
    path = layers.since_keyframe(newest.id)
    done = [position for position, layer_id in enumerate(path) if layers.info(layer_id).digest == image.map.digest]
    if done:
        try:
            return _apply_and_save(layers, path[done[0] + 1 :], image)
        except TornPages:
            pass
    image.close()
    return _make_anew(layers, newest)


def _make_anew(layers: Layers, newest: LayerInfo) -> Image:
    path = layers.since_keyframe(newest.id)
    return _apply_and_save(layers, path, head.create(layers.directory))


def _apply_and_save(layers: Layers, path: list[int], image: Image) -> Image:
    _apply(layers, path, image)
    head.save(layers.directory, image.map)
    return image


def _apply(layers: Layers, path: list[int], image: Image) -> Image:
    for layer_id in path:
        with layers.open(layer_id) as source:
            image.apply(source)
    return image


def _temporary(directory: Path) -> int:
    """Beside the layers, where there is room for them; elsewhere if the store is read-only."""
    for place in (directory, Path(tempfile.gettempdir())):
        try:
            return os.open(place, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError:
            continue
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
