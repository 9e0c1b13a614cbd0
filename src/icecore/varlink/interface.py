# SPDX-License-Identifier: Apache-2.0
"""What a varlink interface is made of: types, methods, errors."""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Basic:
    """``bool``, ``int``, ``float``, ``string`` or ``object`` (any JSON object)."""

    kind: str


@dataclass(frozen=True, slots=True)
class Named:
    """A reference to a ``type`` of the same interface."""

    name: str


@dataclass(frozen=True, slots=True)
class Maybe:
    """``?T``: may be null or left out."""

    item: "Type"


@dataclass(frozen=True, slots=True)
class Array:
    """``[]T``."""

    item: "Type"


@dataclass(frozen=True, slots=True)
class Map:
    """``[string]T``."""

    item: "Type"


@dataclass(frozen=True, slots=True)
class Struct:
    """``(name: T, ...)``."""

    fields: tuple[tuple[str, "Type"], ...] = ()


@dataclass(frozen=True, slots=True)
class Enum:
    """``(name, ...)``: one of these words, as a string."""

    values: tuple[str, ...]


Type: TypeAlias = Basic | Named | Maybe | Array | Map | Struct | Enum


@dataclass(frozen=True, slots=True)
class Method:
    """What a method takes and gives."""

    parameters: Struct
    result: Struct


@dataclass(frozen=True, slots=True)
class Interface:
    """A parsed description. ``text`` is the description itself, as it is published."""

    name: str
    text: str
    types: dict[str, Struct | Enum]
    methods: dict[str, Method]
    errors: dict[str, Struct]
