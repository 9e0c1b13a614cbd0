# SPDX-License-Identifier: Apache-2.0
"""Messages on the stream, and what is not one."""

import math
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icecore.varlink.framing import BadMessage, Splitter, decode, encode

SCALARS = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False) | st.text()
JSON = st.recursive(
    SCALARS.filter(lambda value: value not in (math.inf, -math.inf)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=4), JSON, max_size=4), max_size=4), st.integers(1, 50))
def test_messages_come_out_as_they_went_in(messages: list[dict[str, object]], chunk: int) -> None:
    stream = b"".join(map(encode, messages))
    splitter, found = Splitter(1 << 20), list[object]()
    for start in range(0, len(stream), chunk):
        splitter.feed(stream[start : start + chunk])
        while (message := splitter.next()) is not None:
            found.append(decode(message))
    assert found == messages
    assert not splitter.pending


def test_a_message_ends_with_the_only_nul() -> None:
    assert encode({"a": "x\0y"}) == b'{"a":"x\\u0000y"}\0'


def test_limit_holds_for_whole_and_for_unfinished_messages() -> None:
    for tail in (b"", b"\0"):
        splitter = Splitter(10)
        splitter.feed(b"x" * 11 + tail)
        with pytest.raises(BadMessage, match="longer than 10 bytes"):
            splitter.next()
    splitter = Splitter(10)
    splitter.feed(b"x" * 10 + b"\0" + b"y" * 10)
    assert splitter.next() == b"x" * 10
    assert splitter.next() is None
    assert splitter.pending


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"{'a':1}",
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1,"a":2}',
        b'{"a":"\xff"}',
        b'{"a":1}{"b":2}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":' + b"[" * 60000 + b"]" * 60000 + b"}",
    ],
)
def test_what_is_no_object_is_refused(text: bytes) -> None:
    with pytest.raises(BadMessage):
        decode(text)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_refused(text: bytes) -> None:
    with suppress(BadMessage):
        assert isinstance(decode(text), dict)
