# SPDX-License-Identifier: Apache-2.0
"""What every verb shares: where the store and the daemon are, and how arguments are read."""

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from icecore.daemon.service.paths import default_socket, default_store

_SUFFIXES = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
TRACKERS = ("auto", "write-protect", "soft-dirty", "content")
SHORTEST_INTERVAL = 0.1
PAGE = 4096


@dataclass(frozen=True, slots=True)
class Common:
    """The common options, resolved."""

    store: Path
    socket: Path
    json: bool
    use_daemon: bool
    """Whether a daemon may be asked. Not if a store was named and no socket was: the daemon may keep another store."""


def add_common(parser: argparse.ArgumentParser) -> None:
    """The common options, before the verb or after it: only what is given is set."""
    group = parser.add_argument_group("common options")
    absent = argparse.SUPPRESS
    group.add_argument("--store", type=Path, metavar="DIR", default=absent, help=f"default {default_store()}")
    group.add_argument("--socket", type=Path, metavar="PATH", default=absent, help=f"default {default_socket()}")
    group.add_argument("--json", action="store_true", default=absent, help="print one JSON object on stdout")


def add_tracker(parser: argparse.ArgumentParser) -> None:
    """How written pages are found, and what is done where the kernel may name too many or too few."""
    parser.add_argument(
        "--tracker", choices=TRACKERS, default="auto", metavar="TRACKER",
        help=f"how written pages are found: {', '.join(TRACKERS)} (default auto: the quickest that works here)",
    )  # fmt: skip
    parser.add_argument(
        "--exact", action=argparse.BooleanOptionalAction, default=True,
        help="compare contents where the kernel may name too many pages or miss one (default); --no-exact: store what "
        "the kernel says",
    )  # fmt: skip


def add_ranges(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Which memory: addresses and names."""
    parser.add_argument(
        "--range", type=memory_range, action="append", metavar="RANGE", dest="ranges", default=[],
        help=f"{purpose}: START-END (hexadecimal), heap, stack, or the path of a mapping (may be repeated)",
    )  # fmt: skip


def common(arguments: argparse.Namespace) -> Common:
    """The common options of a parsed command line."""
    given: dict[str, object] = vars(arguments)
    names_store = bool(given.get("store") or os.environ.get("ICECORE_STORE"))
    names_socket = bool(given.get("socket") or os.environ.get("ICECORE_SOCKET"))
    return Common(
        store=Path(str(given.get("store") or default_store())).absolute(),
        socket=Path(str(given.get("socket") or default_socket())).absolute(),
        json=bool(given.get("json")),
        use_daemon=names_socket or not names_store,
    )


def duration(text: str) -> float:
    """Seconds from "2", "0.5", "500ms", "1s", "5m", "1h"."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 500ms, 2s or 5m")
    seconds = float(match[1]) * _SUFFIXES[match[2] or "s"]
    if seconds < SHORTEST_INTERVAL:
        raise argparse.ArgumentTypeError(f"{text!r} is shorter than {SHORTEST_INTERVAL * 1000:.0f} ms")
    return seconds


def pid(text: str) -> int:
    """A process id."""
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1 << 22:
        raise argparse.ArgumentTypeError(f"{text!r} is not a process id")
    return int(text)


def address_range(text: str) -> tuple[int, int]:
    """[start, end) in bytes from "START-END" in hexadecimal, as /proc/PID/maps prints it."""
    match = re.fullmatch(r"(?:0x)?([0-9a-fA-F]{1,16})-(?:0x)?([0-9a-fA-F]{1,16})", text)
    if match is None or int(match[1], 16) >= int(match[2], 16):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a range such as 7f0000000000-7f0000200000, heap, stack or /usr/lib/libc.so.6"
        )
    return int(match[1], 16), int(match[2], 16)


def memory_range(text: str) -> tuple[int, int] | str:
    """Whole pages [start, end) in bytes, or the name of mappings."""
    from icecore.kernel.procfs.named import is_name

    if is_name(text):
        return text
    start, end = address_range(text)
    if start % PAGE or end % PAGE:
        raise argparse.ArgumentTypeError(f"{text!r} are not whole pages: both must end in 000")
    return start, end


def range_fields(ranges: Sequence[tuple[int, int] | str]) -> list[dict[str, object]] | None:
    """``type Range`` of the daemon's interface; None: everything."""
    return [{"name": one} if isinstance(one, str) else {"start": one[0], "end": one[1]} for one in ranges] or None


def reference(text: str) -> tuple[str, int | None]:
    """(name, id or None for the newest) from "NAME" or "NAME@ID"."""
    name, at, number = text.partition("@")
    if not name or (at and not (number.isascii() and number.isdigit())):
        raise argparse.ArgumentTypeError(f"{text!r} is not a checkpoint such as job or job@12")
    return name, int(number) if at else None


def chain_name(text: str) -> str:
    """``text`` with everything replaced that a chain's name may not hold."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).lstrip("-._")[:64] or "job"
