# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the service's tests: a daemon with a fake engine, and processes that it may hold."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.icecored import Icecored
from support.service_types import Sleepers
from support.victim import Victim

SLEEPER = ("/bin/sh", "-c", "echo ready $$; read line")


@pytest.fixture
def directory() -> Iterator[Path]:
    """A place for store and socket that other users can reach, which pytest's own is not."""
    with tempfile.TemporaryDirectory(prefix="icecored-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture
def daemon(directory: Path) -> Iterator[Icecored]:
    """A running daemon whose engine is a fake."""
    with Icecored(directory) as running:
        yield running


@pytest.fixture
def sleeper(start: Callable[..., Victim]) -> Sleepers:
    """``sleeper(user=None)``: a process that waits for its end."""

    def start_one(user: int | None = None) -> Victim:
        return start(SLEEPER, user=user)

    return start_one
