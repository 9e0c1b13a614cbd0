# SPDX-License-Identifier: Apache-2.0
"""Errors on the wire: the standard ones of org.varlink.service, and icecore's own tree by class name.

The server sends ``<interface>.<IcecoreError.name>`` with the error's parameters; the client raises the same class.
"""

from collections.abc import Iterator

from icecore.errors import CannotRestore, IcecoreError, UsageError
from icecore.varlink.framing import Json, JsonObject

SERVICE = "org.varlink.service"


class VarlinkError(Exception):
    """An error as it travels: its full name and its parameters."""

    def __init__(self, name: str, parameters: dict[str, object] | None = None) -> None:
        super().__init__(name)
        self.name = name
        self.parameters = parameters or {}


def to_wire(error: IcecoreError, interface: str) -> VarlinkError:
    """``error`` as an error of ``interface``."""
    return VarlinkError(f"{interface}.{error.name}", error.parameters())


def from_wire(name: str, parameters: JsonObject) -> IcecoreError:
    """The exception that the client raises. A name from a newer daemon becomes the base class, its text kept."""
    interface, _, last = name.rpartition(".")
    if interface == SERVICE:
        return _protocol_error(last, parameters)
    kind = classes().get(last, IcecoreError)
    message, remedy = _text(parameters.get("message")) or name, _text(parameters.get("remedy"))
    reasons = parameters.get("reasons")
    if issubclass(kind, CannotRestore) and isinstance(reasons, list):
        return kind(message, remedy, tuple(_text(reason) for reason in reasons))
    return kind(message, remedy)


def classes() -> dict[str, type[IcecoreError]]:
    """Every class of the tree by its name on the socket."""
    return {kind.name: kind for kind in _tree(IcecoreError)}


def _tree(kind: type[IcecoreError]) -> Iterator[type[IcecoreError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


def _protocol_error(name: str, parameters: JsonObject) -> IcecoreError:
    """The request itself was wrong: client and daemon do not agree on the interface."""
    detail = ", ".join(f"{key} {_text(value)}" for key, value in parameters.items())
    return UsageError(f"the daemon does not understand the request: {name} ({detail})", "use one release of both")


def _text(value: Json) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)
