# SPDX-License-Identifier: Apache-2.0
"""The table of exit statuses in docs/cli.md is that of the errors."""

import re
from collections.abc import Iterator
from pathlib import Path

from icecore.cli.main import VERBS
from icecore.errors import IcecoreError

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "cli.md"


def tree(kind: type[IcecoreError]) -> Iterator[type[IcecoreError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


def test_every_error_is_documented_with_its_status() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+) \|", DOCUMENT.read_text(), re.MULTILINE)
    assert {(int(code), name) for code, name in rows} == {(kind.exit_code, kind.name) for kind in tree(IcecoreError)}


def test_every_error_has_a_status_of_its_own() -> None:
    codes = [kind.exit_code for kind in tree(IcecoreError)]
    assert len(set(codes)) == len(codes)


def test_every_verb_is_documented() -> None:
    rows = re.findall(r"^\| `(\w+)[^|]*\| ([^|]+) \|$", DOCUMENT.read_text(), re.MULTILINE)
    assert rows[: len(VERBS)] == [(verb.name, (verb.__doc__ or "").splitlines()[0]) for verb in VERBS]
