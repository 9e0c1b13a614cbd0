# SPDX-License-Identifier: Apache-2.0
"""``icecore status``."""

import argparse
from dataclasses import asdict
from typing import ClassVar

from icecore.cli import output
from icecore.cli.daemon import connect_if_there
from icecore.cli.fields import Row, number, record, records, seconds, text, texts
from icecore.cli.options import Common

TRACKED = ("NAME", "STATE", "TRACKER", "PID", "INTERVAL", "TAKEN", "NEWEST", "PAUSE", "DIRTY", "WRITTEN")
STORED = ("NAME", "NEWEST", "TAKEN", "CHECKPOINTS", "SIZE")


class Status:
    """What is tracked, and what the store holds.

    From the daemon if it answers, else from the store.
    """

    name: ClassVar[str] = "status"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        pass

    def run(self, arguments: argparse.Namespace, common: Common) -> int:
        del arguments
        daemon = connect_if_there(common)
        if daemon is None:
            _print_stored(common)
            return 0
        with daemon:
            reply = daemon.call("List")
        if common.json:
            output.document({"daemon": str(common.socket), **reply})
        else:
            _print_tracked(reply)
        return 0


def _print_tracked(reply: Row) -> None:
    targets = records(reply, "targets")
    if targets:
        output.table(TRACKED, [_target_columns(target) for target in targets], left=3)
    else:
        print("nothing is tracked")
    for target in targets:
        if about := _about(target):
            print(f"{text(target, 'name')}: {about}")
        if problem := record(target, "problem"):
            print(f"{text(target, 'name')}: {text(problem, 'message')}")
    if chains := texts(reply, "chains"):
        print(f"chains: {', '.join(chains)}")


def _about(target: Row) -> str:
    """Which memory, if not all, and why this tracker."""
    named = [text(one, "name") if one.get("name") else _addresses(one) for one in records(target, "ranges")]
    reason = text(target, "tracker_reason")
    return "; ".join(filter(None, (f"memory of {', '.join(named)}" if named else "", reason)))


def _addresses(one: Row) -> str:
    return f"{number(one, 'start'):x}-{number(one, 'end'):x}"


def _target_columns(target: Row) -> list[str]:
    about = [text(target, field) for field in ("name", "state", "tracker", "pid")]
    about += [f"{seconds(target, 'interval'):g} s", text(target, "taken")]
    last = record(target, "last")
    if last is None:
        return [*about, "-", "-", "-", "-"]
    pause, written = output.milliseconds(number(last, "pause_us")), output.size(number(last, "bytes_written"))
    return [*about, f"@{text(last, 'id')}", pause, text(last, "pages_dirty"), written]


def _print_stored(common: Common) -> None:
    from icecore.storage.store import Store

    store = Store.open(common.store)
    chains = [_chain(name, [asdict(info) for info in store.chain(name).layers()]) for name in store.names()]
    if common.json:
        output.document({"daemon": None, "store": str(common.store), "chains": chains})
    else:
        print(f"no daemon was asked; the store {common.store} holds {len(chains) or 'no'} chains")
        output.table(STORED, [_chain_columns(chain) for chain in chains])


def _chain(name: str, layers: list[Row]) -> Row:
    size = sum(number(layer, "bytes_written") for layer in layers)
    newest = dict(layers[-1]) if layers else None
    return {"name": name, "checkpoints": len(layers), "bytes": size, "newest": newest}


def _chain_columns(chain: Row) -> list[str]:
    newest = record(chain, "newest")
    moment = ["-", "-"] if newest is None else [f"@{text(newest, 'id')}", output.local_time(number(newest, "time_ns"))]
    return [text(chain, "name"), *moment, text(chain, "checkpoints"), output.size(number(chain, "bytes"))]
