# SPDX-License-Identifier: Apache-2.0
"""What the service needs of the engine and of a target, as types: the schedule can be tested without either."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from icecore.daemon.tracker.base import Ranges
from icecore.storage.chain import Chain


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a process its client wants to have, and how it is tracked."""

    tracker: str = "auto"
    ranges: Ranges = ()
    """Empty: the whole process."""
    exact: bool = True
    """Compare what a tracker names with the chain wherever it may name too much."""


class Target(Protocol):
    """A process held by pidfd and start time (``icecore.daemon.target``)."""

    @property
    def pid(self) -> int: ...
    @property
    def pidfd(self) -> int: ...
    @property
    def start_time(self) -> int: ...
    @property
    def comm(self) -> str: ...
    def alive(self) -> bool: ...
    def close(self) -> None: ...


class Progress(Protocol):
    """How far a checkpoint is: a phase by name, and ``done`` of ``total`` pages of it."""

    @property
    def phase(self) -> str: ...
    @property
    def done(self) -> int: ...
    @property
    def total(self) -> int: ...


class Report(Protocol):
    """What a checkpoint came to."""

    @property
    def id(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def tracker(self) -> str: ...
    @property
    def tracker_reason(self) -> str: ...
    @property
    def pause_us(self) -> int: ...
    @property
    def pages_dirty(self) -> int: ...
    @property
    def pages_stored(self) -> int: ...
    @property
    def bytes_written(self) -> int: ...
    def as_json(self) -> dict[str, object]: ...


class Engine(Protocol):
    """Takes the checkpoints of one target. Blocking; used by one thread at a time."""

    def checkpoint(self, kill: bool = False, progress: Callable[[Progress], None] | None = None) -> Report:
        """One checkpoint; what ``progress`` raises abandons it, target unharmed and chain as it was."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Ports:
    """How to come by them; each call may block and may raise any IcecoreError."""

    open_target: Callable[[int], Target]
    open_engine: Callable[[Target, Chain, Wanted], Engine]
