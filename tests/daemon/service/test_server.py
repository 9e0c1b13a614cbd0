# SPDX-License-Identifier: Apache-2.0
"""The server's patience, on real sockets with limits of tenths of a second: it runs out, for that connection only."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
import trio.testing

from icecore.daemon.service.server import Limits, Server
from icecore.errors import Busy
from icecore.varlink.framing import decode, encode
from icecore.varlink.idl import parse
from icecore.varlink.service import Call, Reply, Service

INTERFACE = parse("""
interface org.example.test
method Echo(text: string) -> (text: string)
method Flood() -> (text: string)
method Fail(how: string) -> ()
""")
SHORT = Limits(connections=2, per_user=2, idle=0.2, message=0.2, write=0.2, request_bytes=1000)
BIG = "x" * (1 << 20)


@dataclass
class Ending:
    """How the last flood ended."""

    event: trio.Event = field(default_factory=trio.Event)
    error: str = ""


ending = Ending()


async def echo(call: Call) -> Reply:
    return {"text": call.parameters["text"]}


async def flood(call: Call) -> Reply:
    """Says more than any socket's buffer holds."""
    try:
        for _ in range(64):
            await call.emit({"text": BIG})
    except BaseException as error:
        ending.error = type(error).__name__
        ending.event.set()
        raise
    return {"text": "done"}


async def fail(call: Call) -> Reply:
    if call.parameters["how"] == "expected":
        raise Busy("it is taken", "wait")
    raise ZeroDivisionError("oh")


@asynccontextmanager
async def serving(directory: Path, limits: Limits) -> AsyncGenerator[Callable[[], Awaitable[trio.SocketStream]]]:
    """``connect()`` for a server in this very loop."""
    service = Service(vendor="v", product="p", version="1", url="u")
    service.add(INTERFACE, {"Echo": echo, "Flood": flood, "Fail": fail})
    path = str(directory / "socket")
    listener = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    await listener.bind(path)
    listener.listen(10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Server(service, "org.example.test", limits).serve, trio.SocketListener(listener))

        async def connect() -> trio.SocketStream:
            return await trio.open_unix_socket(path)

        yield connect
        nursery.cancel_scope.cancel()
    listener.close()


async def receive(stream: trio.SocketStream) -> dict[str, object] | None:
    data = b""
    while not data.endswith(b"\0"):
        more = await stream.receive_some(1 << 20)
        if not more:
            return None
        data += more
    return {**decode(data[:-1])}


async def trickle(stream: trio.SocketStream) -> None:
    """Each byte comes long before the patience ends; the message does not."""
    while True:
        await stream.send_all(b" ")
        await trio.sleep(0.01)


def call(method: str, more: bool = False, **parameters: object) -> bytes:
    return encode({"method": f"org.example.test.{method}", "parameters": parameters, "more": more})


async def assert_closes(stream: trio.SocketStream) -> None:
    with trio.fail_after(30):
        assert await stream.receive_some(1) == b""


@pytest.mark.parametrize("sent", [b"", b"{", b'{"method":"org.example.te'])
def test_silence_ends_the_connection(tmp_path: Path, sent: bytes) -> None:
    async def main() -> None:
        async with serving(tmp_path, SHORT) as connect, await connect() as stream:
            if sent:
                await stream.send_all(sent)
            await assert_closes(stream)

    trio.run(main)


def test_a_message_that_trickles_in_ends_the_connection(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, SHORT) as connect, await connect() as stream:
            with trio.fail_after(30), pytest.raises(trio.BrokenResourceError):
                await trickle(stream)

    trio.run(main)


def test_a_caller_that_does_not_read_is_left(tmp_path: Path) -> None:
    async def main() -> None:
        ending.event = trio.Event()
        async with serving(tmp_path, SHORT) as connect, await connect() as stream:
            await stream.send_all(call("Flood", more=True))
            with trio.fail_after(30):
                await ending.event.wait()
            assert ending.error == "TooSlowError"

    trio.run(main)


def test_a_caller_that_leaves_while_it_is_answered(tmp_path: Path) -> None:
    async def main() -> None:
        ending.event = trio.Event()
        async with serving(tmp_path, Limits()) as connect:
            async with await connect() as stream:
                await stream.send_all(call("Flood", more=True))
                await stream.receive_some(1)
            with trio.fail_after(30):
                await ending.event.wait()
            assert ending.error == "BrokenResourceError"
            async with await connect() as stream:
                await stream.send_all(call("Echo", text="still here"))
                assert await receive(stream) == {"parameters": {"text": "still here"}}

    trio.run(main)


def test_without_more_only_the_last_reply_comes(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, Limits()) as connect, await connect() as stream:
            await stream.send_all(call("Flood"))
            assert await receive(stream) == {"parameters": {"text": "done"}}

    trio.run(main)


def test_a_place_is_free_again_when_its_connection_ends(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, Limits(connections=1)) as connect:
            for _ in range(3):
                async with await connect() as stream:
                    await stream.send_all(call("Echo", text="x"))
                    assert await receive(stream) == {"parameters": {"text": "x"}}
                    async with await connect() as refused:
                        reply = await receive(refused)
                        assert reply is not None
                        assert reply["error"] == "org.example.test.Busy"
                        await assert_closes(refused)
                await trio.testing.wait_all_tasks_blocked()

    trio.run(main)


def test_what_handlers_raise(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with serving(tmp_path, Limits()) as connect, await connect() as stream:
            await stream.send_all(call("Fail", how="expected"))
            busy = {"error": "org.example.test.Busy", "parameters": {"message": "it is taken", "remedy": "wait"}}
            assert await receive(stream) == busy
            await stream.send_all(call("Fail", how="bug"))
            reply = await receive(stream)
            assert reply is not None
            assert reply["error"] == "org.example.test.Failed"
            assert "ZeroDivision" not in str(reply)

    trio.run(main)
    assert "ZeroDivisionError: oh" in caplog.text


def test_a_service_without_handler_is_refused() -> None:
    service = Service(vendor="v", product="p", version="1", url="u")
    with pytest.raises(ValueError, match="Echo"):
        service.add(INTERFACE, {"Flood": flood, "Fail": fail})
