# SPDX-License-Identifier: Apache-2.0
"""The only place that imports msgpack: one dialect, limits for untrusted input, one exception.

The dialect: maps with str keys, arrays, str, bin, integers of 64 bits, booleans and nil; no extension types. A str may
hold bytes that are not UTF-8, as file names do: they become lone surrogates, as in os.fsdecode().
"""

from collections.abc import Callable
from typing import Final, NoReturn, cast

import msgpack  # type: ignore[import-untyped]

_packb = cast("Callable[..., object]", msgpack.packb)  # pyright: ignore[reportUnknownMemberType]
_unpackb = cast("Callable[..., object]", msgpack.unpackb)  # pyright: ignore[reportUnknownMemberType]

MAX_ITEMS: Final = 1 << 20
"""Elements of one array or map: vm.max_map_count is 65,530 by default, and no list in a layer grows faster."""
MAX_BYTES: Final = 1 << 30
"""One message."""


class DecodeError(ValueError):
    """The bytes are not what they should be; says what was expected, not where: the caller knows the file."""


def pack(value: object) -> bytes:
    """Encode plain values."""
    packed: object = _packb(value, use_bin_type=True, strict_types=True, unicode_errors="surrogateescape")
    assert isinstance(packed, bytes)
    return packed


def unpack(data: bytes | memoryview) -> object:
    """Decode one message. Raises DecodeError for anything that is not one message of the dialect."""
    if len(data) > MAX_BYTES:
        raise DecodeError(f"message of {len(data)} bytes where at most {MAX_BYTES} are allowed")
    try:
        # use_list: lists are allocated lazily zeroed, so that an array header alone costs no memory; tuples would
        decoded: object = _unpackb(
            data,
            use_list=True,
            raw=False,
            strict_map_key=True,
            unicode_errors="surrogateescape",
            max_array_len=min(len(data), MAX_ITEMS),
            max_map_len=min(len(data), MAX_ITEMS),
            max_ext_len=0,
            ext_hook=_refuse_extension,
        )
        return decoded
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise DecodeError(f"msgpack: {type(error).__name__}: {error}") from None


def _refuse_extension(code: int, data: bytes) -> NoReturn:
    raise ValueError(f"extension type {code} of {len(data)} bytes")
