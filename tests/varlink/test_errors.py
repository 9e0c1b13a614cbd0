# SPDX-License-Identifier: Apache-2.0
"""An error that a daemon raises is the same error in the client."""

import pytest

from icecore.errors import CannotRestore, IcecoreError, UsageError
from icecore.varlink.errors import classes, from_wire, to_wire
from icecore.varlink.framing import decode, encode


@pytest.mark.parametrize("kind", classes().values())
def test_every_class_survives_the_wire(kind: type[IcecoreError]) -> None:
    sent = to_wire(kind("what", "do this"), "org.example")
    parameters = decode(encode(sent.parameters)[:-1])
    received = from_wire(sent.name, parameters)
    assert type(received) is kind
    assert (received.message, received.remedy) == ("what", "do this")


def test_reasons_survive_too() -> None:
    sent = to_wire(CannotRestore("what", "do this", ("fd 3", "fd 4")), "org.example")
    received = from_wire(sent.name, decode(encode(sent.parameters)[:-1]))
    assert isinstance(received, CannotRestore)
    assert received.reasons == ("fd 3", "fd 4")


def test_errors_of_the_protocol_and_of_newer_daemons() -> None:
    received = from_wire("org.varlink.service.InvalidParameter", {"parameter": "pid: must be an int"})
    assert isinstance(received, UsageError)
    assert "pid: must be an int" in received.message
    received = from_wire("io.icecore.Checkpoint.Unheard", {"message": "of"})
    assert type(received) is IcecoreError
    assert received.message == "of"
