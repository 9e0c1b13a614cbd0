# SPDX-License-Identifier: Apache-2.0
"""Dataclasses to plain values and back, strictly: what is not of the declared type is refused by its path.

Done here because msgspec refuses unions of dataclasses (``records.Description``). A member of a union carries its class
name as "type". A field that is missing takes its default; one that is unknown is left alone: a newer release wrote it.
"""

import dataclasses
from collections.abc import Callable, Hashable
from functools import cache
from types import NoneType, UnionType
from typing import TypeVar, Union, cast, get_args, get_origin, get_type_hints

from icecore.storage.codec import DecodeError
from icecore.storage.records import Description

Record = TypeVar("Record")
Converter = Callable[[object, str], object]

TAG = "type"
_SCALARS: frozenset[type] = frozenset((int, str, bytes, bool))
_TAGGED: frozenset[type] = frozenset(get_args(Description))


def to_plain(value: object) -> object:
    """Maps, lists, str, bytes, int, bool and None."""
    if isinstance(value, tuple):
        return [to_plain(item) for item in cast("tuple[object, ...]", value)]
    if dataclasses.is_dataclass(value):
        kind = type(value)
        plain = {name: to_plain(getattr(value, name)) for name in _field_names(cast(Hashable, kind))}
        return {TAG: kind.__name__, **plain} if kind in _TAGGED else plain
    return value


def from_plain(kind: type[Record], value: object) -> Record:
    """The record that ``value`` describes. Raises DecodeError naming the field that does not fit."""
    return cast(Record, _converter(cast(Hashable, kind))(value, kind.__name__))


@cache
def _field_names(kind: Hashable) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cast(type, kind)))


@cache
def _converter(kind: Hashable) -> Converter:
    """How to check and build a value of a declared type."""
    if isinstance(kind, type) and kind in _SCALARS:
        return _exactly(kind)
    if get_origin(kind) is tuple:
        return _tuple(get_args(kind))
    if get_origin(kind) in (Union, UnionType):
        return _union(get_args(kind))
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _record(kind)
    raise TypeError(f"{kind!r} cannot be stored")


def _exactly(kind: type) -> Converter:
    def convert(value: object, path: str) -> object:
        if type(value) is not kind:  # a bool is not an int here
            raise _wrong(path, kind.__name__, value)
        return value

    return convert


def _tuple(args: tuple[object, ...]) -> Converter:
    if len(args) == 2 and args[1] is Ellipsis:
        length, items = None, [_converter(args[0])]
    else:
        length, items = len(args), [_converter(arg) for arg in args]

    def convert(value: object, path: str) -> object:
        if not isinstance(value, list):
            raise _wrong(path, "array", value)
        values = cast("list[object]", value)
        if length is not None and len(values) != length:
            raise DecodeError(f"{path}: {length} elements expected, {len(values)} found")
        converters = items * len(values) if length is None else items
        return tuple([item(element, path) for item, element in zip(converters, values, strict=True)])

    return convert


def _union(args: tuple[object, ...]) -> Converter:
    members = [arg for arg in args if arg is not NoneType]
    optional = len(members) < len(args)
    inner = _converter(members[0]) if len(members) == 1 else _tagged(members)

    def convert(value: object, path: str) -> object:
        return None if optional and value is None else inner(value, path)

    return convert


def _tagged(members: list[object]) -> Converter:
    converters = {cast(type, member).__name__: _converter(member) for member in members}

    def convert(value: object, path: str) -> object:
        tag = _mapping(value, path).get(TAG)
        if not isinstance(tag, str) or tag not in converters:
            raise DecodeError(f"{path}: unknown kind {str(tag)[:40]!r}")
        return converters[tag](value, path)

    return convert


def _record(kind: type) -> Converter:
    hints = get_type_hints(kind)
    fields = [(name, _converter(hints[name])) for name in _field_names(kind)]
    required = {field.name for field in dataclasses.fields(kind) if _is_required(field)}

    def convert(value: object, path: str) -> object:
        values = _mapping(value, path)
        if not required <= values.keys():
            raise DecodeError(f"{path}: {', '.join(sorted(required - values.keys()))} missing")
        return kind(**{name: item(values[name], f"{path}.{name}") for name, item in fields if name in values})

    return convert


def _is_required(field: "dataclasses.Field[object]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _mapping(value: object, path: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _wrong(path, "map", value)
    return cast("dict[str, object]", value)


def _wrong(path: str, expected: str, value: object) -> DecodeError:
    return DecodeError(f"{path}: {expected} expected, {type(value).__name__} found")
