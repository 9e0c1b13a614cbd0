# SPDX-License-Identifier: Apache-2.0
"""The parser of interface descriptions.

Grammar: https://varlink.org/Interface-Definition. Comments are kept by no one; the text itself is what is published.
"""

import re
from collections.abc import Iterator

from icecore.varlink.interface import Array, Basic, Enum, Interface, Map, Maybe, Method, Named, Struct, Type


class BadInterface(ValueError):
    """The text is not an interface description; the message names the line."""


_TOKEN = re.compile(
    r"(?P<skip>[ \t\r\n]+|#[^\n]*)"
    r"|(?P<interface>[A-Za-z](?:-*[A-Za-z0-9])*(?:\.[A-Za-z0-9](?:-*[A-Za-z0-9])*)+)"
    r"|(?P<word>[A-Za-z](?:_?[A-Za-z0-9])*)"
    r"|(?P<mark>->|\[string\]|\[\]|[?():,])"
)
_BASIC = frozenset({"bool", "int", "float", "string", "object"})


def parse(text: str) -> Interface:
    """The interface that ``text`` describes; raises BadInterface with the number of the line that makes no sense."""
    return _Parser(text).interface()


class _Parser:
    """Recursive descent with one token of look-ahead."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._at = 0

    def interface(self) -> Interface:
        self._expect("interface")
        found = Interface(self._take(), self._text, {}, {}, {})
        if "." not in found.name:
            raise self._bad("an interface name such as org.example.thing")
        while self._peek():
            self._member(found)
        _check_references(found)
        return found

    def _member(self, interface: Interface) -> None:
        keyword, name = self._take(), self._take()
        if name in {*interface.types, *interface.methods, *interface.errors} or not name[:1].isupper():
            raise self._bad("a new name that begins with a capital")
        if keyword == "type":
            interface.types[name] = self._aggregate()
        elif keyword == "method":
            parameters = self._struct()
            self._expect("->")
            interface.methods[name] = Method(parameters, self._struct())
        elif keyword == "error":
            interface.errors[name] = self._struct()
        else:
            raise self._bad("type, method or error")

    def _type(self) -> Type:
        token = self._peek()
        if token == "(":
            return self._aggregate()
        self._at += 1
        if token == "?":
            return Maybe(self._type())
        if token == "[]":
            return Array(self._type())
        if token == "[string]":
            return Map(self._type())
        if token in _BASIC:
            return Basic(token)
        if not token[:1].isupper():
            raise self._bad("a type")
        return Named(token)

    def _struct(self) -> Struct:
        found = self._aggregate()
        if isinstance(found, Enum):
            raise self._bad("a struct")
        return found

    def _aggregate(self) -> Struct | Enum:
        """``()``, ``(a: T, ...)`` or ``(a, b, ...)``: a struct or an enum, as the mark after the first word tells."""
        self._expect("(")
        names: list[str] = []
        fields: list[tuple[str, Type]] = []
        while self._peek() != ")":
            if names:
                self._expect(",")
            names.append(self._word(names))
            if self._peek() == ":":
                self._at += 1
                fields.append((names[-1], self._type()))
        self._expect(")")
        if fields and len(fields) != len(names):
            raise self._bad("fields or words, not both")
        return Enum(tuple(names)) if names and not fields else Struct(tuple(fields))

    def _word(self, taken: list[str]) -> str:
        word = self._take()
        if not word[:1].isalpha() or "." in word or word in taken:
            raise self._bad("a new field name")
        return word

    def _peek(self) -> str:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def _expect(self, token: str) -> None:
        if self._take() != token:
            raise self._bad(repr(token))

    def _bad(self, wanted: str) -> BadInterface:
        at = max(0, min(self._at, len(self._tokens)) - 1)
        token, line = self._tokens[at] if self._tokens else ("", 1)
        return BadInterface(f"line {line}: expected {wanted}, found {token!r}")


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    """(token, line number), comments and blanks left out."""
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        line = text.count("\n", 0, at) + 1
        if match is None:
            raise BadInterface(f"line {line}: {text[at]!r} does not belong here")
        if match.lastgroup != "skip":
            yield match.group(), line
        at = match.end()


def _check_references(interface: Interface) -> None:
    """Every named type exists: found when the description is read, not when the first request comes."""
    structs = [part for method in interface.methods.values() for part in (method.parameters, method.result)]
    for found in (*structs, *interface.errors.values(), *interface.types.values()):
        for name in _references(found):
            if name not in interface.types:
                raise BadInterface(f"{interface.name}: no type {name}")


def _references(found: Type) -> Iterator[str]:
    if isinstance(found, Named):
        yield found.name
    elif isinstance(found, Maybe | Array | Map):
        yield from _references(found.item)
    elif isinstance(found, Struct):
        for _, item in found.fields:
            yield from _references(item)
