# SPDX-License-Identifier: Apache-2.0
"""Does a JSON value have the type that the interface says? Unknown fields are refused, not ignored."""

from icecore.varlink.framing import Json
from icecore.varlink.interface import Array, Basic, Enum, Interface, Map, Maybe, Named, Struct, Type

_INT_MIN, _INT_MAX = -(1 << 63), (1 << 63) - 1


class Mismatch(Exception):
    """A value is not of its type. ``path`` names it (``ranges[0].start``), ``reason`` says what was wanted."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def validate(interface: Interface, wanted: Type, value: Json, path: str = "") -> None:
    """Raises Mismatch where ``value`` is not a ``wanted`` of ``interface``."""
    match wanted:
        case Maybe(item):
            if value is not None:
                validate(interface, item, value, path)
        case Named(name):
            validate(interface, interface.types[name], value, path)
        case Struct():
            _struct(interface, wanted, value, path)
        case Array(item):
            _array(interface, item, value, path)
        case Map(item):
            _map(interface, item, value, path)
        case Enum(values):
            if value not in values:
                raise Mismatch(path, f"must be one of {', '.join(values)}")
        case Basic(kind):
            _basic(kind, value, path)


def _struct(interface: Interface, wanted: Struct, value: Json, path: str) -> None:
    found = _object(value, path)
    for name in found.keys() - {name for name, _ in wanted.fields}:
        raise Mismatch(_join(path, name[:64]), "no such field")
    for name, item in wanted.fields:
        if name not in found and not isinstance(item, Maybe):
            raise Mismatch(_join(path, name), "is missing")
        validate(interface, item, found.get(name), _join(path, name))


def _array(interface: Interface, item: Type, value: Json, path: str) -> None:
    if not isinstance(value, list):
        raise Mismatch(path, "must be an array")
    for index, element in enumerate(value):
        validate(interface, item, element, f"{path}[{index}]")


def _map(interface: Interface, item: Type, value: Json, path: str) -> None:
    for key, element in _object(value, path).items():
        validate(interface, item, element, _join(path, key))


def _basic(kind: str, value: Json, path: str) -> None:
    is_int = isinstance(value, int) and not isinstance(value, bool)
    fits = {
        "bool": isinstance(value, bool),
        "int": is_int,
        "float": is_int or isinstance(value, float),
        "string": isinstance(value, str),
        "object": isinstance(value, dict),
    }[kind]
    if not fits:
        raise Mismatch(path, f"must be {'an' if kind[0] in 'io' else 'a'} {kind}")
    if isinstance(value, int) and not _INT_MIN <= value <= _INT_MAX:
        raise Mismatch(path, "does not fit in 64 bits")


def _object(value: Json, path: str) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise Mismatch(path, "must be an object")
    return value


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
