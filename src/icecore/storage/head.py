# SPDX-License-Identifier: Apache-2.0
"""The head of a chain: the newest image, kept in ``head.pages`` (slots) and ``head.index`` (what the slots mean).

It is a cache and never fsynced: the index names the layer it belongs to and has a checksum, every page has a hash, so
whatever a crash leaves behind is found when it is used, and made anew from the layers.
"""

import os
import struct
from pathlib import Path
from typing import Final

import numpy as np

from icecore.storage import arrays, codec, runs
from icecore.storage.codec import DecodeError
from icecore.storage.durable import FILE_MODE, replace_file
from icecore.storage.hashing import checksum
from icecore.storage.image import EMPTY_MAP, Image, PageMap
from icecore.storage.page_file import PageFile

INDEX, PAGES = "head.index", "head.pages"
MAGIC: Final = b"ICEHEAD1"
HEADER: Final = struct.Struct("<8s16s")
"""Magic with version, xxh3-128 of the rest."""
_LENGTH: Final = struct.Struct("<Q")
"""Of the msgpack part; the slots (u32 each) and the hashes (16 bytes each) of all pages follow it."""
_CLASSES: Final = ("data", "zero", "guard")


def load(directory: Path, *, writable: bool) -> Image | None:
    """The head as it is on disk, or None if there is none or its index is damaged. Raises OSError."""
    try:
        pages = _load_map(directory / INDEX)
        flags = os.O_RDWR if writable else os.O_RDONLY
        return Image(PageFile(os.open(directory / PAGES, flags | os.O_CLOEXEC | os.O_NOFOLLOW)), pages)
    except (FileNotFoundError, DecodeError):
        return None


def create(directory: Path) -> Image:
    """An empty head in a new page file; readers of an old one keep it."""
    forget(directory)
    (directory / PAGES).unlink(missing_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    return Image(PageFile(os.open(directory / PAGES, flags, FILE_MODE)), EMPTY_MAP)


def save(directory: Path, pages: PageMap) -> None:
    """Replace the index."""
    packed = {name: arrays.pack_runs(getattr(pages, name)) for name in _CLASSES}
    body = codec.pack({"digest": pages.digest, **packed})
    slots, hashes = pages.slots.astype("<u4"), np.ascontiguousarray(pages.hashes)
    parts: list[bytes | memoryview] = [_LENGTH.pack(len(body)), body, slots.data, hashes.data]
    replace_file(directory / INDEX, HEADER.pack(MAGIC, checksum(*parts)), *parts, durable=False)


def forget(directory: Path) -> None:
    """Have the head made anew the next time the chain is written."""
    (directory / INDEX).unlink(missing_ok=True)


def _load_map(path: Path) -> PageMap:
    data = path.read_bytes()
    start = HEADER.size + _LENGTH.size
    if len(data) < start or HEADER.unpack_from(data) != (MAGIC, checksum(memoryview(data)[HEADER.size :])):
        raise DecodeError("head index: not one, or damaged")
    end = start + int(_LENGTH.unpack_from(data, HEADER.size)[0])
    plain = codec.unpack(data[start:end])
    classes = {name: arrays.unpack_runs(arrays.binary(plain, name), name) for name in _CLASSES}
    count = runs.count(classes["data"])
    if len(data) != end + 20 * count:
        raise DecodeError(f"head index: {len(data) - end} bytes for {count} pages")
    slots = np.frombuffer(data, dtype="<u4", count=count, offset=end).astype(np.int64)
    hashes = np.frombuffer(data, dtype=np.uint8, offset=end + 4 * count).view("<u8").reshape(-1, 2)
    return PageMap(arrays.text(plain, "digest"), classes["data"], slots, hashes, classes["zero"], classes["guard"])
