# SPDX-License-Identifier: Apache-2.0
"""Fixtures for every test: a store of one's own, and victims that are gone when the test is over."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from support import summary
from support.programs import c_program
from support.victim import Start, Victim


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the trackers did."""
    summary.write(terminalreporter)


@pytest.fixture
def start() -> Iterator[Start]:
    """Start victims; whatever still runs at the end of the test is killed by its pidfd and reaped."""
    with ExitStack() as stack:

        def start_one(
            program: str | Sequence[str | Path], *arguments: str, cwd: Path | None = None, user: int | None = None
        ) -> Victim:
            argv: list[str | Path] = [c_program(program)] if isinstance(program, str) else list(program)
            return stack.enter_context(Victim.start([*argv, *arguments], cwd=cwd, user=user))

        yield start_one


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that every user may write to; pytest's own are closed to others."""
    with TemporaryDirectory(prefix="icecore-test-") as name:
        path = Path(name)
        path.chmod(0o777)
        yield path
