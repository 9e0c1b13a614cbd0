# SPDX-License-Identifier: Apache-2.0
"""A varlink server on trio: bounded in connections, bytes and time, whoever is at the other end.

A request that is wrong in itself gets a typed error and the connection goes on; a stream that is no varlink (too long,
not JSON, silent in the middle of a message) is closed. Nothing that one connection does ends another or the server.
"""

import logging
import os
import socket
import struct
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import trio

from icecore.errors import Busy, IcecoreError
from icecore.varlink.errors import VarlinkError, to_wire
from icecore.varlink.framing import MAX_REQUEST, BadMessage, Splitter, decode, encode
from icecore.varlink.service import Peer, Reply, Request, Service, request

log = logging.getLogger(__name__)

_CHUNK = 16 << 10
_UCRED = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server grants its callers; times in seconds."""

    connections: int = 256
    per_user: int = 64
    """Of those, for one uid other than root: nobody locks the others out."""
    request_bytes: int = MAX_REQUEST
    idle: float = 300.0
    """Between two requests."""
    message: float = 10.0
    """From the first byte of a request to its last."""
    write: float = 10.0
    """For the peer to read a reply."""


class Server:
    """Serves ``service`` on a listening socket. ``error_interface`` is where IcecoreErrors get their names."""

    def __init__(self, service: Service, error_interface: str, limits: Limits | None = None) -> None:
        self._service = service
        self._error_interface = error_interface
        self._limits = limits or Limits()
        self._users: Counter[int] = Counter()

    async def serve(self, listener: trio.SocketListener) -> None:
        """Runs until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:  # EMFILE and friends: those who have a connection keep it, new ones wait
                    log.warning("accept: %s", error)
                    await trio.sleep(0.1)
                    continue
                nursery.start_soon(self._connection, stream)

    async def _connection(self, stream: trio.SocketStream) -> None:
        """One peer from its first byte to its last. Only cancellation escapes."""
        async with stream:
            try:
                peer = peer_of(stream.socket)
                with self._place(peer):
                    await self._requests(stream, peer)
            except (BadMessage, trio.BrokenResourceError, trio.TooSlowError, OSError) as error:
                log.debug("connection closed: %s", repr(error))
            except Busy as error:
                self._refuse(stream, error)
            except Exception:
                log.exception("bug: a connection failed")

    @contextmanager
    def _place(self, peer: Peer) -> Generator[None]:
        """A place among the connections; Busy when there is none left for this user."""
        limits = self._limits
        if self._users.total() >= limits.connections or (peer.uid and self._users[peer.uid] >= limits.per_user):
            raise Busy("the daemon serves as many connections as it may", "close some, or try again")
        self._users[peer.uid] += 1
        try:
            yield
        finally:
            self._users[peer.uid] -= 1
            if not self._users[peer.uid]:
                del self._users[peer.uid]

    async def _requests(self, stream: trio.SocketStream, peer: Peer) -> None:
        splitter = Splitter(self._limits.request_bytes)
        while (message := await self._read(stream, splitter)) is not None:
            await self._answer(stream, peer, request(decode(message)))

    async def _read(self, stream: trio.SocketStream, splitter: Splitter) -> bytes | None:
        """The next message, None at the end of the stream."""
        with trio.fail_after(self._limits.message if splitter.pending else self._limits.idle) as scope:
            while (message := splitter.next()) is None:
                data = await stream.receive_some(_CHUNK)
                if not data:
                    return None
                if not splitter.pending:
                    scope.deadline = trio.current_time() + self._limits.message
                splitter.feed(data)
        return message

    async def _answer(self, stream: trio.SocketStream, peer: Peer, asked: Request) -> None:
        async def emit(reply: Reply) -> None:
            if asked.more:
                await self._send(stream, asked, {"parameters": reply, "continues": True})

        try:
            message: Reply = {"parameters": await self._service.dispatch(asked, peer, emit)}
        except VarlinkError as error:
            message = _error(error)
        except IcecoreError as error:
            message = _error(to_wire(error, self._error_interface))
        except (trio.BrokenResourceError, trio.TooSlowError):
            raise  # the peer went away while replies were streamed to it
        except Exception:
            log.exception("bug: %s failed", asked.method)
            bug = IcecoreError("the daemon failed at this request", "its log has the details; please report it")
            message = _error(to_wire(bug, self._error_interface))
        await self._send(stream, asked, message)

    async def _send(self, stream: trio.SocketStream, asked: Request, message: Reply) -> None:
        if not asked.oneway:
            with trio.fail_after(self._limits.write):
                await stream.send_all(encode(message))

    def _refuse(self, stream: trio.SocketStream, error: IcecoreError) -> None:
        """The reason goes into the socket's empty buffer at once, or is dropped: a refusal waits for nobody."""
        with suppress(OSError):
            os.write(stream.socket.fileno(), encode(_error(to_wire(error, self._error_interface))))


def _error(error: VarlinkError) -> Reply:
    return {"error": error.name, "parameters": error.parameters}


def peer_of(connection: trio.socket.SocketType) -> Peer:
    """SO_PEERCRED: struct ucred, filled in by the kernel at connect(2)."""
    return Peer(*_UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))
