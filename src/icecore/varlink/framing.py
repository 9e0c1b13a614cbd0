# SPDX-License-Identifier: Apache-2.0
"""Messages on the stream: one JSON object each, ended by a NUL byte (which JSON text cannot contain)."""

import json
from collections.abc import Mapping
from typing import TypeAlias

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
JsonObject: TypeAlias = dict[str, Json]

MAX_REQUEST = 128 << 10
"""Bytes of one request, at most: a server keeps that much for each connection, whoever is at the other end."""
MAX_REPLY = 16 << 20
"""Bytes of one reply, at most: a client refuses more."""


class BadMessage(Exception):
    """What came is not a message: too long, not JSON, not an object. The connection has lost its footing."""


class Splitter:
    """Cuts a byte stream into messages and keeps at most ``limit`` bytes of an unfinished one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._searched = 0

    @property
    def pending(self) -> bool:
        """Whether the beginning of a message waits for its rest."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> bytes | None:
        """The next whole message without its NUL, or None. Raises BadMessage if it is or will be too long."""
        end = self._buffer.find(0, self._searched)
        if (len(self._buffer) if end < 0 else end) > self._limit:
            raise BadMessage(f"message longer than {self._limit} bytes")
        if end < 0:
            self._searched = len(self._buffer)
            return None
        message = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return message


def encode(message: Mapping[str, object]) -> bytes:
    """``message`` as it goes on the wire, NUL included. Characters beyond ASCII are escaped: no NUL, no bad UTF-8."""
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\0"


def decode(message: bytes) -> JsonObject:
    """The object in ``message``; raises BadMessage for everything that is not one, however hostile."""
    try:
        value: Json = json.loads(message.decode("utf-8"), parse_constant=_refuse, object_pairs_hook=_unique)
    except RecursionError:
        raise BadMessage("nested too deeply") from None
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, integers of thousands of digits, doubled keys
        raise BadMessage(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadMessage("not a JSON object")
    return value


def _refuse(constant: str) -> Json:
    raise ValueError(f"{constant} is not JSON")


def _unique(pairs: list[tuple[str, Json]]) -> JsonObject:
    """Two fields of one name: which of them counts is a matter of taste, and of attacks."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a field appears twice")
    return value
