# SPDX-License-Identifier: Apache-2.0
"""Hostile bytes on the daemon's socket: a typed error or a closed connection, and the daemon lives on."""

import json
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from support.icecored import NOBODY, Icecored
from support.service_types import Sleepers

from icecore.errors import Busy
from icecore.varlink.framing import MAX_REQUEST, JsonObject, Splitter, decode, encode

PREFIX = "io.icecore.Checkpoint."
INVALID, NOT_FOUND = "org.varlink.service.InvalidParameter", "org.varlink.service.MethodNotFound"
OVERLAP = [{"start": 0, "end": 8192}, {"start": 4096, "end": 8192}]


def answer(connection: socket.socket) -> JsonObject | None:
    """One reply, or None if the daemon closed the connection."""
    splitter = Splitter(1 << 20)
    while (message := splitter.next()) is None:
        try:
            data = connection.recv(65536)
        except ConnectionResetError:
            return None
        if not data:
            return None
        splitter.feed(data)
    return decode(message)


def assert_alive(daemon: Icecored) -> None:
    with daemon.client() as client:
        assert client.call("org.varlink.service.GetInfo")["product"] == "icecored"


@pytest.fixture(autouse=True)
def no_traceback(daemon: Icecored) -> Iterator[None]:
    """Nothing that a caller sends is a bug of ours."""
    yield
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.output


@pytest.mark.parametrize(
    "sent",
    [
        b"\0",
        b"hello\0",
        b"GET / HTTP/1.1\r\n\r\n\0",
        b"[]\0",
        b"{}\0",
        b'{"method":1}\0',
        b'{"method":"a.b.C","parameters":[]}\0',
        b'{"method":"a.b.C","more":1}\0',
        b'{"method":"a.b.C","upgrade":true}\0',
        b'{"method":"a.b.C","extra":true}\0',
        b'{"method":"a.b.C","method":"a.b.D"}\0',
        b'{"method":"\xff\xfe"}\0',
        b'{"method":' + b"[" * 50_000 + b"\0",
        b'{"method":"a.b.C","parameters":{"x":' + b"9" * 50_000 + b"}}\0",
        b"x" * (MAX_REQUEST + 1) + b"\0",
        b"x" * (4 * MAX_REQUEST),
    ],
    ids=lambda sent: repr(sent[:40]),
)
def test_what_is_no_varlink_is_cut_off(daemon: Icecored, sent: bytes) -> None:
    with daemon.raw() as connection:
        with suppress(BrokenPipeError, ConnectionResetError):  # cut off before it was all said
            connection.sendall(sent)
        assert answer(connection) is None
    assert_alive(daemon)


@pytest.mark.parametrize(
    ("method", "parameters", "error", "detail"),
    [
        ("List", {"x": 1}, INVALID, "x: no such field"),
        ("Track", {}, INVALID, "pid: is missing"),
        ("Track", {"pid": "1"}, INVALID, "pid: must be an int"),
        ("Track", {"pid": True}, INVALID, "pid: must be an int"),
        ("Track", {"pid": 1e300}, INVALID, "pid: must be an int"),
        ("Track", {"pid": 1 << 64}, INVALID, "pid: does not fit in 64 bits"),
        ("Track", {"pid": 1, "interval": "1"}, INVALID, "interval: must be a float"),
        ("Track", {"pid": 1, "ranges": [{"start": "0"}]}, INVALID, "ranges[0].start"),
        ("Track", {"pid": 1, "ranges": [{"begin": 0}]}, INVALID, "begin"),
        ("Track", {"pid": 1, "exact": 1}, INVALID, "exact"),
        ("Track", {"pid": 1, "ranges": [{"start": 0}]}, PREFIX + "Usage", "range"),
        ("Track", {"pid": 1, "ranges": [dict[str, int]()]}, PREFIX + "Usage", "range"),
        ("Track", {"pid": 1, "ranges": [{"name": "nonsense"}]}, PREFIX + "Usage", "nonsense"),
        ("Track", {"pid": 1, "ranges": [{"name": "heap", "start": 0}]}, PREFIX + "Usage", "either"),
        ("Track", {"pid": 1, "ranges": [{"name": ""}]}, PREFIX + "Usage", "not a range"),
        ("Untrack", {"name": None}, INVALID, "name: must be a string"),
        ("Checkpoint", {"kill": 1}, INVALID, "kill: must be a bool"),
        ("Format", {}, NOT_FOUND, "Format"),
        ("", {}, NOT_FOUND, ""),
        ("Track", {"pid": 0}, PREFIX + "NoSuchProcess", "pid 0"),
        ("Track", {"pid": -1}, PREFIX + "NoSuchProcess", "pid -1"),
        ("Track", {"pid": 1 << 40}, PREFIX + "NoSuchProcess", str(1 << 40)),
        ("Track", {"pid": 1, "name": "../../etc"}, PREFIX + "Usage", "../../etc"),
        ("Track", {"pid": 1, "name": "a" * 65}, PREFIX + "Usage", "name"),
        ("Track", {"pid": 1, "name": ".."}, PREFIX + "Usage", "name"),
        ("Track", {"pid": 1, "name": "a\nb"}, PREFIX + "Usage", "name"),
        ("Track", {"pid": 1, "name": ""}, PREFIX + "Usage", "name"),
        ("Track", {"pid": 1, "interval": 0}, PREFIX + "Usage", "interval"),
        ("Track", {"pid": 1, "interval": -1}, PREFIX + "Usage", "interval"),
        ("Track", {"pid": 1, "tracker": "magic"}, PREFIX + "Usage", "magic"),
        ("Track", {"pid": 1, "ranges": [{"start": 4096, "end": 4096}]}, PREFIX + "Usage", "range"),
        ("Track", {"pid": 1, "ranges": [{"start": 0, "end": 1}]}, PREFIX + "Usage", "range"),
        ("Track", {"pid": 1, "ranges": [{"start": -4096, "end": 4096}]}, PREFIX + "Usage", "range"),
        ("Track", {"pid": 1, "ranges": OVERLAP}, PREFIX + "Usage", "overlap"),
        ("Track", {"pid": 1, "ranges": [{"start": 0, "end": 4096}] * 1000}, PREFIX + "Usage", "too many"),
        ("Checkpoint", {}, PREFIX + "Usage", "neither"),
        ("Checkpoint", {"name": "nothing"}, PREFIX + "NoSuchCheckpoint", "nothing"),
        ("Untrack", {"name": "nothing"}, PREFIX + "NoSuchCheckpoint", "nothing"),
        ("Show", {"name": "nothing"}, PREFIX + "NoSuchCheckpoint", "nothing"),
    ],
)  # fmt: skip
def test_a_wrong_request_gets_a_typed_error(
    daemon: Icecored, method: str, parameters: dict[str, object], error: str, detail: str
) -> None:
    with daemon.raw() as connection:
        for _ in range(2):  # the connection goes on
            connection.sendall(encode({"method": PREFIX + method, "parameters": parameters}))
            reply = answer(connection)
            assert reply is not None
            assert reply["error"] == error
            assert detail in json.dumps(reply["parameters"])


def test_an_infinite_interval_is_refused(daemon: Icecored) -> None:
    with daemon.raw() as connection:
        connection.sendall(b'{"method":"io.icecore.Checkpoint.Track","parameters":{"pid":1,"interval":1e999}}\0')
        reply = answer(connection)
        assert reply is not None
        assert reply["error"] == PREFIX + "Usage"


def test_unknown_interface(daemon: Icecored) -> None:
    with daemon.raw() as connection:
        connection.sendall(encode({"method": "org.example.Do"}))
        reply = answer(connection)
        assert reply == {"error": "org.varlink.service.InterfaceNotFound", "parameters": {"interface": "org.example"}}


def test_requests_in_a_row_are_answered_in_order_and_oneway_is_not(daemon: Icecored) -> None:
    with daemon.raw() as connection:
        info, unknown = {"method": "org.varlink.service.GetInfo"}, {"method": "a.b.C"}
        connection.sendall(encode({**unknown, "oneway": True}) + encode(info) + encode(unknown))
        splitter, replies = Splitter(1 << 20), list[JsonObject]()
        while len(replies) < 2:
            splitter.feed(connection.recv(65536))
            while (message := splitter.next()) is not None:
                replies.append(decode(message))
        assert [sorted(reply) for reply in replies] == [["parameters"], ["error", "parameters"]]


def test_half_a_message_and_silence_hold_up_nobody(daemon: Icecored) -> None:
    with ExitStack() as open_connections:
        for _ in range(50):
            connection = open_connections.enter_context(daemon.raw())
            connection.sendall(b'{"method":"org.varl')
        assert_alive(daemon)


def test_two_hundred_connections_are_all_served(daemon: Icecored) -> None:
    with ExitStack() as open_clients:
        clients = [open_clients.enter_context(daemon.client()) for _ in range(200)]
        for client in (*clients, *clients):
            assert client.call("List") == {"targets": [], "chains": []}


def test_one_user_cannot_take_all_connections(daemon: Icecored) -> None:
    with ExitStack() as open_clients:
        clients = [open_clients.enter_context(daemon.client_of(NOBODY)) for _ in range(64)]
        for client in clients:
            client.call("List")
        with daemon.client_of(NOBODY) as refused, pytest.raises(Busy, match="as many connections"):
            refused.call("List")
        assert_alive(daemon)
        clients[0].close()
        with daemon.client_of(NOBODY - 1) as another:
            another.call("List")


def test_beyond_the_limit_connections_are_refused_not_kept(daemon: Icecored) -> None:
    with ExitStack() as open_clients:
        for _ in range(256):
            open_clients.enter_context(daemon.client()).call("List")
        with daemon.client() as refused, pytest.raises(Busy):
            refused.call("List")
    assert_alive(daemon)


def test_disconnect_in_the_middle_of_streaming(daemon: Icecored, sleeper: Sleepers) -> None:
    victim = sleeper()
    with daemon.raw() as connection:
        parameters = {"pid": victim.pid, "name": "slow-one"}
        connection.sendall(encode({"method": PREFIX + "Checkpoint", "parameters": parameters, "more": True}))
        reply = answer(connection)
        assert reply is not None
        assert reply["continues"] is True
        with daemon.at_gate():
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
    daemon.wait_for("slow-one@1")
    assert_alive(daemon)
    assert victim.is_running()


def test_a_caller_that_does_not_read_delays_nobody(daemon: Icecored, sleeper: Sleepers) -> None:
    victim = sleeper()
    with daemon.raw() as connection:
        parameters = {"pid": victim.pid, "name": "chatty-one"}
        connection.sendall(encode({"method": PREFIX + "Checkpoint", "parameters": parameters, "more": True}))
        daemon.wait_for("chatty-one@1")
    assert_alive(daemon)


def test_descriptors_and_memory_are_given_back(daemon: Icecored) -> None:
    def descriptors() -> int:
        return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))

    assert_alive(daemon)
    before = descriptors()
    for _ in range(100):
        with daemon.raw() as connection:
            connection.sendall(b"x" * 10_000)
    with daemon.raw() as last:  # answered after the daemon has read the end of the others
        last.sendall(b"\0")
        assert answer(last) is None
    with daemon.client() as client:
        for _ in range(1000):
            client.call("List")
            if descriptors() <= before + 1:
                break
        assert descriptors() <= before + 1
