# SPDX-License-Identifier: Apache-2.0
"""Reading of arguments, and where store and socket are by default."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from icecore.cli.main import parser
from icecore.cli.options import address_range, chain_name, common, duration, memory_range, pid, reference


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ICECORE_STORE", "ICECORE_SOCKET", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("text", "seconds"), [("1", 1.0), ("0.5", 0.5), ("500ms", 0.5), ("2s", 2.0), ("1.5m", 90.0), ("1h", 3600.0)]
)
def test_duration(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("job", ("job", None)), ("job@12", ("job", 12)), ("a.b-c_d@1", ("a.b-c_d", 1))],
)
def test_reference(text: str, wanted: tuple[str, int | None]) -> None:
    assert reference(text) == wanted


def test_address_range() -> None:
    assert address_range("7f0000000000-7f0000200000") == (0x7F0000000000, 0x7F0000200000)
    assert address_range("0x1000-0x2000") == (0x1000, 0x2000)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (duration, ""), (duration, "-1"), (duration, "1d"), (duration, "nan"), (duration, "10ms"), (duration, "0"),
        (pid, "0"), (pid, "-1"), (pid, "x"), (pid, "99999999999"), (pid, "²"),
        (reference, ""), (reference, "@1"), (reference, "job@"), (reference, "job@x"), (reference, "job@-1"),
        (address_range, "2000-1000"), (address_range, "1000"), (address_range, "x-y"),
    ],
)  # fmt: skip
def test_nonsense_is_refused(read: Callable[[str], object], text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        read(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [("python3-12", "python3-12"), ("(sd-pam)-7", "sd-pam_-7"), ("..", "job"), ("x" * 80, "x" * 64), ("é", "job")],
)
def test_chain_name_holds_what_a_name_may_hold(text: str, name: str) -> None:
    assert chain_name(text) == name


@pytest.mark.skipif(os.geteuid() != 0, reason="root's defaults")
def test_defaults_of_root() -> None:
    found = common(argparse.Namespace())
    assert (found.store, found.socket) == (Path("/var/lib/icecore"), Path("/run/icecore/icecore.sock"))


def test_defaults_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/u")
    found = common(argparse.Namespace())
    assert (found.store, found.socket) == (Path("/home/u/.local/state/icecore"), Path("/run/user/1000/icecore.sock"))
    monkeypatch.setenv("XDG_STATE_HOME", "/s")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/r")
    found = common(argparse.Namespace())
    assert (found.store, found.socket) == (Path("/s/icecore"), Path("/r/icecore.sock"))


def test_environment_and_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICECORE_STORE", "/e/store")
    monkeypatch.setenv("ICECORE_SOCKET", "/e/socket")
    found = common(parser().parse_args(["status"]))
    assert (found.store, found.socket) == (Path("/e/store"), Path("/e/socket"))
    found = common(parser().parse_args(["status", "--store", "/o", "--socket", "/p"]))
    assert (found.store, found.socket) == (Path("/o"), Path("/p"))


@pytest.mark.parametrize(
    "arguments", [["--json", "--store", "/o", "log", "x"], ["log", "--json", "x", "--store", "/o"]]
)
def test_common_options_on_either_side_of_the_verb(arguments: list[str]) -> None:
    found = common(parser().parse_args(arguments))
    assert found.json
    assert found.store == Path("/o")


@pytest.mark.parametrize(
    ("options", "asked"),
    [([], True), (["--socket", "/p"], True), (["--store", "/o"], False), (["--store", "/o", "--socket", "/p"], True)],
)
def test_a_daemon_with_another_store_is_not_asked(options: list[str], asked: bool) -> None:
    assert common(parser().parse_args(["status", *options])).use_daemon is asked


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (["run", "--", "ls", "-l"], ["--", "ls", "-l"]),
        (["run", "--name", "x", "--", "ls", "--json", "--", "y"], ["--", "ls", "--json", "--", "y"]),
        (["run", "--interval", "2s", "ls", "-l", "--name", "z"], ["ls", "-l", "--name", "z"]),
        (["--store", "/o", "run", "--json", "--", "ls"], ["--", "ls"]),
    ],
)
def test_the_command_of_run_is_left_alone(line: list[str], command: list[str]) -> None:
    assert parser().parse_args(line).command == command


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("7f0000000000-7f0000200000", (0x7F0000000000, 0x7F0000200000)),
        ("heap", "heap"),
        ("stack", "stack"),
        ("/usr/lib/libc.so.6", "/usr/lib/libc.so.6"),
        ("[anon:x]", "[anon:x]"),
    ],
)
def test_memory_range(text: str, wanted: object) -> None:
    assert memory_range(text) == wanted


@pytest.mark.parametrize("text", ["heaps", "", "1000-1800", "1800-2000", "2000-1000", "libc.so.6"])
def test_no_memory_range(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        memory_range(text)
