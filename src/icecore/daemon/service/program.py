# SPDX-License-Identifier: Apache-2.0
"""What ``icecored`` does: opens store and socket, serves until SIGTERM or SIGINT, leaves nothing behind."""

import argparse
import logging
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import trio

import icecore
from icecore.daemon.service.api import INTERFACE, Api, interface
from icecore.daemon.service.chains import Chains
from icecore.daemon.service.listen import listening_socket, lock
from icecore.daemon.service.paths import default_socket, default_store
from icecore.daemon.service.ports import Ports
from icecore.daemon.service.registry import Registry
from icecore.daemon.service.server import Server
from icecore.errors import IcecoreError
from icecore.storage.durable import store_errors
from icecore.storage.store import Store
from icecore.varlink.service import Service

log = logging.getLogger("icecored")

SWITCH_INTERVAL = 0.0005
"""Seconds for which one thread may keep the interpreter from another; the default, 5 ms, is longer than a pause should
be, and the thread that has stopped a target needs the interpreter back after every system call."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line says."""

    store: Path
    socket: Path
    verbose: bool = False


def run(arguments: Sequence[str] | None, ports: Ports) -> int:
    """Returns the exit status: 0 after SIGTERM or SIGINT, else that of the error."""
    settings = parse(arguments)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if settings.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    try:
        serve(settings, ports)
    except IcecoreError as error:
        print(f"icecored: {error.message}", file=sys.stderr)
        if error.remedy:
            print(f"icecored: {error.remedy}", file=sys.stderr)
        return error.exit_code
    return 0


def parse(arguments: Sequence[str] | None) -> Settings:
    """The command line; exits with status 2 when it makes no sense."""
    parser = argparse.ArgumentParser("icecored", description="Checkpoints processes for whoever owns them.")
    parser.add_argument("--store", type=Path, metavar="DIR", help=f"where the chains are (default {default_store()})")
    parser.add_argument("--socket", type=Path, metavar="PATH", help=f"where to listen (default {default_socket()})")
    parser.add_argument("--verbose", action="store_true", help="log every closed connection too")
    parser.add_argument("--version", action="version", version=f"icecored {icecore.__version__}")
    found = parser.parse_args(arguments)
    store, path = found.store or default_store(), found.socket or default_socket()
    return Settings(store.absolute(), path.absolute(), found.verbose)


def serve(settings: Settings, ports: Ports) -> None:
    """Serves until a signal ends it; ``listening on PATH`` on stdout says that it has begun."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    raise_descriptor_limit()
    with ExitStack() as held:
        store = Store.open(settings.store, create=True)
        with store_errors(settings.store):
            held.enter_context(lock(settings.store / "daemon.lock", f"the store {settings.store}"))
        listener = held.enter_context(listening_socket(settings.socket))
        trio.run(_serve, settings, Chains(store), ports, listener)
    log.info("stopped")


def raise_descriptor_limit() -> None:
    """The usual soft limit, 1024 for select(2)'s sake, is less than connections and targets may need."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _serve(settings: Settings, chains: Chains, ports: Ports, listener: socket.socket) -> None:
    service = Service(vendor="icecore", product="icecored", version=icecore.__version__, url="")
    async with trio.open_nursery() as targets:
        registry = Registry(chains, ports, targets)
        service.add(interface(), Api(registry, chains, ports).handlers)
        async with trio.open_nursery() as connections:
            connections.start_soon(Server(service, INTERFACE).serve, _trio_listener(listener))
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                print(f"listening on {settings.socket}", flush=True)
                log.info("listening on %s, store %s", settings.socket, settings.store)
                number = await anext(signals)
            registry.stop()
            connections.cancel_scope.cancel()
            log.info("%s: stopping", signal.Signals(number).name)


def _trio_listener(listener: socket.socket) -> trio.SocketListener:
    return trio.SocketListener(trio.socket.from_stdlib_socket(listener.dup()))
