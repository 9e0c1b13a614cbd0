# SPDX-License-Identifier: Apache-2.0
"""The program as a whole: help, speed of starting, errors for people and for programs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from icecore import __version__
from icecore.cli import main
from icecore.cli.main import VERBS
from icecore.cli.output import error, local_time, milliseconds, size
from icecore.errors import CannotRestore

HEAVY = {"numpy", "rich", "trio", "msgpack", "zstandard", "pyroute2", "icecore.kernel", "icecore.storage"}


def icecore(*arguments: str, store: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """The real program, away from this machine's daemon and store."""
    environment = {**os.environ, "ICECORE_STORE": str(store or "/nonexistent"), "ICECORE_SOCKET": "/nonexistent/socket"}
    program = Path(sys.executable).with_name("icecore")
    return subprocess.run([program, *arguments], env=environment, text=True, capture_output=True, check=False)


def test_help_lists_every_verb() -> None:
    result = icecore("--help")
    assert result.returncode == 0
    for verb in VERBS:
        assert f"\n    {verb.name} " in result.stdout


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
def test_every_verb_has_help(verb: str) -> None:
    result = icecore(verb, "--help")
    assert result.returncode == 0
    assert "--store" in result.stdout


def test_version() -> None:
    assert icecore("--version").stdout == f"icecore {__version__}\n"


def test_it_starts_without_what_is_heavy() -> None:
    script = "import sys, icecore.cli.main; print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], text=True, capture_output=True, check=True).stdout.split()
    assert not HEAVY & set(loaded)


@pytest.mark.parametrize(
    "arguments",
    [(), ("melt",), ("log",), ("checkpoint", "x"), ("checkpoint", "0"), ("run",), ("run", "--"), ("restore", "a@b")],
)
def test_a_wrong_command_line(arguments: tuple[str, ...]) -> None:
    result = icecore(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    message, remedy = result.stderr.splitlines()
    assert message.startswith("icecore: ")
    assert remedy.startswith("  ")


@pytest.mark.parametrize("verb", ["track", "untrack"])
def test_no_daemon(verb: str) -> None:
    result = icecore(verb, "1")
    assert result.returncode == 12
    assert "/nonexistent/socket" in result.stderr


@pytest.mark.parametrize("arguments", [("log", "job"), ("show", "job@3"), ("restore", "job"), ("status",)])
def test_no_store(arguments: tuple[str, ...]) -> None:
    result = icecore(*arguments)
    assert result.returncode == 7
    assert "/nonexistent" in result.stderr


def test_json_has_the_error_too() -> None:
    result = icecore("--json", "log", "job")
    found = json.loads(result.stdout)["error"]
    assert found["name"] == "StoreUnusable"
    assert found["exit_code"] == result.returncode == 7
    assert found["message"] in result.stderr
    assert found["remedy"]


def test_json_of_a_line_that_does_not_parse() -> None:
    assert json.loads(icecore("log", "--json").stdout)["error"]["name"] == "Usage"
    assert icecore("melt", "--", "--json").stdout == ""


def test_several_reasons_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    error(CannotRestore("process 7 holds fd 3 a (and 1 more)", "close it", ("fd 3 a", "fd 4 b")))
    assert (
        capsys.readouterr().err == "icecore: process 7 holds fd 3 a (and 1 more)\n  - fd 3 a\n  - fd 4 b\n  close it\n"
    )
    error(CannotRestore("process 7 holds fd 3 a", "close it", ("fd 3 a",)))
    assert capsys.readouterr().err == "icecore: process 7 holds fd 3 a\n  close it\n"


def test_a_bug_shows_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(main, "common", broken)
    with pytest.raises(ZeroDivisionError):
        main.run(["status"])


def test_a_reader_that_leaves_early_is_no_error() -> None:
    program = Path(sys.executable).with_name("icecore")
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run([program, "--help"], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (result.returncode, result.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1024, "1.0 KiB"), (5 << 20, "5.0 MiB"), (300 << 20, "300 MiB"), (3 << 40, "3.0 TiB")],
)
def test_size(count: int, text: str) -> None:
    assert size(count) == text


def test_figures() -> None:
    assert milliseconds(1337) == "1.34 ms"
    assert len(local_time(1_700_000_000_000_000_000)) == len("2023-11-14 22:13:20")
