# SPDX-License-Identifier: Apache-2.0
"""Interface descriptions: read, and agreed with or not."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icecore.varlink.framing import Json
from icecore.varlink.idl import BadInterface, parse
from icecore.varlink.interface import Array, Basic, Enum, Map, Maybe, Named, Struct, Type
from icecore.varlink.validate import Mismatch, validate

TEXT = """
# A thing.
interface org.example.thing-2   # with a comment

type Colour (red, green)
type Part (
  size: int,
  colour: ?Colour,
  inner: ?[]Part
)
method Do(parts: []Part, by_name: [string]float, how: (fast, slow)) -> (done: bool, any: object)
method Nothing() -> ()
error Broken (where: string)
"""
THING = parse(TEXT)


def test_everything_is_found() -> None:
    assert (THING.name, THING.text) == ("org.example.thing-2", TEXT)
    part = Struct((("size", Basic("int")), ("colour", Maybe(Named("Colour"))), ("inner", Maybe(Array(Named("Part"))))))
    assert THING.types == {"Colour": Enum(("red", "green")), "Part": part}
    do = THING.methods["Do"]
    by_name = Map(Basic("float"))
    assert do.parameters.fields == (
        ("parts", Array(Named("Part"))),
        ("by_name", by_name),
        ("how", Enum(("fast", "slow"))),
    )
    assert do.result == Struct((("done", Basic("bool")), ("any", Basic("object"))))
    assert THING.methods["Nothing"].parameters == THING.methods["Nothing"].result == Struct()
    assert THING.errors == {"Broken": Struct((("where", Basic("string")),))}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1"),
        ("interface thing", "interface name"),
        ("interface a.b\nmethod do() -> ()", "capital"),
        ("interface a.b\n\ntype A (b: int\n", "line 3"),
        ("interface a.b\ntype A (b: int, c)", "not both"),
        ("interface a.b\ntype A (b: int, b: int)", "new field name"),
        ("interface a.b\ntype A (b: word)", "a type"),
        ("interface a.b\ntype A (b: B)", "no type B"),
        ("interface a.b\ntype A ()\ntype A ()", "new name"),
        ("interface a.b\nmethod A(a, b) -> ()", "a struct"),
        ("interface a.b\nmethod A() ()", "'->'"),
        ("interface a.b\nfunction A()", "type, method or error"),
        ("interface a.b\ntype A (b: ?)", "a type"),
        ("interface a.b\n$", "line 2"),
    ],
)
def test_nonsense_is_refused_by_line(text: str, message: str) -> None:
    with pytest.raises(BadInterface, match=message):
        parse(text)


@settings(deadline=None)
@given(st.text(alphabet="interface a.b\nmethodyp()[]?:,->A#", max_size=60))
def test_any_text_is_an_interface_or_refused(text: str) -> None:
    with suppress(BadInterface):
        parse(text)


PART: Json = {"size": 1, "colour": "red", "inner": [{"size": 2}]}


@pytest.mark.parametrize("value", [PART, {"size": 0}, {"size": -(1 << 63), "colour": None}])
def test_values_of_the_type(value: Json) -> None:
    validate(THING, Named("Part"), value)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"size": True}, "size"),
        ({"size": 1.0}, "size"),
        ({"size": "1"}, "size"),
        ({"size": 1 << 63}, "size"),
        ({}, "size"),
        ({"size": None}, "size"),
        ({"size": 1, "colour": "blue"}, "colour"),
        ({"size": 1, "more": 1}, "more"),
        ({"size": 1, "inner": [{"size": 1}, {"size": "x"}]}, "inner[1].size"),
        ({"size": 1, "inner": {}}, "inner"),
        ([], ""),
        (None, ""),
    ],
)
def test_other_values_are_refused_by_path(value: Json, path: str) -> None:
    with pytest.raises(Mismatch) as caught:
        validate(THING, Named("Part"), value)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("wanted", "good", "bad"),
    [
        (Basic("float"), 3, "3"),
        (Basic("float"), 3.5, False),
        (Basic("bool"), False, 0),
        (Basic("string"), "", None),
        (Basic("object"), {"x": [1]}, [1]),
        (Map(Basic("int")), {"a": 1}, {"a": "1"}),
        (Enum(("a",)), "a", ["a"]),
    ],
)
def test_basic_types(wanted: Type, good: Json, bad: Json) -> None:
    validate(THING, wanted, good)
    with pytest.raises(Mismatch):
        validate(THING, wanted, bad)
