# SPDX-License-Identifier: Apache-2.0
"""A synchronous client: one connection, one call at a time; no trio, so that the command line starts fast."""

import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from icecore.errors import DaemonUnreachable
from icecore.varlink.errors import from_wire
from icecore.varlink.framing import MAX_REPLY, BadMessage, JsonObject, Splitter, decode, encode

_CHUNK = 64 << 10


class Client:
    """Calls methods of one interface on the daemon at ``path``.

    ``interface`` is put before method names without a dot. ``timeout`` (seconds, None: for ever) bounds each wait for
    bytes. Every method raises DaemonUnreachable when nobody answers, else the error that the daemon sent, as its class.
    """

    def __init__(
        self, path: str | Path, interface: str = "io.icecore.Checkpoint", timeout: float | None = None
    ) -> None:
        self._path = path
        self._interface = interface
        self._splitter = Splitter(MAX_REPLY)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            # Blocking, so that a full backlog is waited for; a socket with a timeout would say EAGAIN.
            if timeout is not None:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(timeout))
            self._socket.connect(str(path))
            self._socket.settimeout(timeout)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            self._socket.close()
            raise self._unreachable(str(getattr(error, "strerror", None) or error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; what the daemon has begun for it goes on."""
        self._socket.close()

    def call(self, method: str, **parameters: object) -> JsonObject:
        """One request, one reply. Parameters that are None are left out."""
        self._send({"method": self._full_name(method), "parameters": _given(parameters)})
        return self._receive()[0]

    def call_more(self, method: str, **parameters: object) -> Iterator[JsonObject]:
        """One request, sent now; then every reply as it comes. Read them to the end before the next call."""
        self._send({"method": self._full_name(method), "parameters": _given(parameters), "more": True})
        return self._replies()

    def _replies(self) -> Iterator[JsonObject]:
        continues = True
        while continues:
            reply, continues = self._receive()
            yield reply

    def _full_name(self, method: str) -> str:
        return method if "." in method else f"{self._interface}.{method}"

    def _send(self, message: Mapping[str, object]) -> None:
        try:
            self._socket.sendall(encode(message))
        except BrokenPipeError:
            pass  # the daemon closed: what it said before that (too many connections) is still there to be read
        except OSError as error:
            raise self._unreachable(error.strerror or str(error)) from error

    def _receive(self) -> tuple[JsonObject, bool]:
        """(parameters, whether more will follow); raises what the daemon reports."""
        try:
            message = decode(self._message())
        except BadMessage as error:
            raise self._unreachable(f"it does not speak varlink: {error}") from error
        parameters = message.get("parameters")
        parameters = parameters if isinstance(parameters, dict) else {}
        error_name = message.get("error")
        if error_name is not None:
            raise from_wire(str(error_name), parameters)
        return parameters, message.get("continues") is True

    def _message(self) -> bytes:
        while (message := self._splitter.next()) is None:
            try:
                data = self._socket.recv(_CHUNK)
            except OSError as error:
                raise self._unreachable(error.strerror or str(error)) from error
            if not data:
                raise self._unreachable("it closed the connection")
            self._splitter.feed(data)
        return message

    def _unreachable(self, reason: str) -> DaemonUnreachable:
        return DaemonUnreachable(
            f"no daemon answers on {self._path}: {reason}", "start icecored, or give --socket PATH"
        )


def _timeval(seconds: float) -> bytes:
    """struct timeval, never zero, which would mean for ever."""
    return struct.pack("ll", int(seconds), max(1, int(seconds % 1 * 1_000_000)))


def _given(parameters: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in parameters.items() if value is not None}
