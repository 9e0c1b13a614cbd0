# SPDX-License-Identifier: Apache-2.0
"""What a server offers: interfaces with a handler for each method, and the dispatch of one request to its handler."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files

from icecore.varlink.errors import SERVICE, VarlinkError
from icecore.varlink.framing import BadMessage, JsonObject
from icecore.varlink.idl import parse
from icecore.varlink.interface import Interface
from icecore.varlink.validate import Mismatch, validate


@dataclass(frozen=True, slots=True)
class Peer:
    """Who called, from SO_PEERCRED: as it was when the peer connected."""

    pid: int
    uid: int
    gid: int


Reply = Mapping[str, object]
Emit = Callable[[Reply], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Call:
    """One request whose parameters agree with the interface. ``emit`` sends a reply that others will follow; it does
    nothing unless the caller asked for ``more``."""

    peer: Peer
    parameters: JsonObject
    more: bool
    emit: Emit


Handler = Callable[[Call], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came: the fields that varlink allows, each of its type, nothing more."""

    method: str
    parameters: JsonObject
    more: bool
    oneway: bool


def request(message: JsonObject) -> Request:
    """``message`` as a request; raises BadMessage when it is none."""
    method, parameters = message.get("method"), message.get("parameters")
    unknown = message.keys() - {"method", "parameters", "more", "oneway", "upgrade"}
    if not isinstance(method, str) or unknown:
        raise BadMessage("not a varlink call")
    if parameters is not None and not isinstance(parameters, dict):
        raise BadMessage("parameters are not an object")
    flags = [message.get(flag) for flag in ("more", "oneway", "upgrade")]
    if not all(flag is None or isinstance(flag, bool) for flag in flags):
        raise BadMessage("more, oneway and upgrade are booleans")
    if flags[2]:
        raise BadMessage("connections are not upgraded here")
    return Request(method, parameters or {}, flags[0] is True, flags[1] is True)


class Service:
    """The interfaces of one server. org.varlink.service comes by itself."""

    def __init__(self, *, vendor: str, product: str, version: str, url: str) -> None:
        self._info = {"vendor": vendor, "product": product, "version": version, "url": url}
        self._interfaces: dict[str, tuple[Interface, Mapping[str, Handler]]] = {}
        own = parse(files("icecore.varlink").joinpath("org.varlink.service.varlink").read_text("utf-8"))
        self.add(own, {"GetInfo": self._get_info, "GetInterfaceDescription": self._get_description})

    def add(self, interface: Interface, handlers: Mapping[str, Handler]) -> None:
        """Offers ``interface``; every method of it has a handler and the other way round, or ValueError."""
        if handlers.keys() != interface.methods.keys():
            raise ValueError(f"{interface.name}: handlers do not match: {handlers.keys() ^ interface.methods.keys()}")
        self._interfaces[interface.name] = (interface, handlers)

    async def dispatch(self, asked: Request, peer: Peer, emit: Emit) -> Reply:
        """The handler's reply; raises VarlinkError for a request that agrees with no interface."""
        interface_name, _, method = asked.method.rpartition(".")
        interface, handlers = self._find(interface_name)
        if method not in handlers:
            raise VarlinkError(f"{SERVICE}.MethodNotFound", {"method": asked.method[:256]})
        try:
            validate(interface, interface.methods[method].parameters, asked.parameters)
        except Mismatch as error:
            raise VarlinkError(f"{SERVICE}.InvalidParameter", {"parameter": str(error)}) from None
        return await handlers[method](Call(peer, asked.parameters, asked.more, emit))

    def _find(self, name: str) -> tuple[Interface, Mapping[str, Handler]]:
        if name not in self._interfaces:
            raise VarlinkError(f"{SERVICE}.InterfaceNotFound", {"interface": name[:256]})
        return self._interfaces[name]

    async def _get_info(self, call: Call) -> Reply:
        del call
        return {**self._info, "interfaces": list(self._interfaces)}

    async def _get_description(self, call: Call) -> Reply:
        interface, _ = self._find(str(call.parameters["interface"]))
        return {"description": interface.text}
