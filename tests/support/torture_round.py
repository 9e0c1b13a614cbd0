# SPDX-License-Identifier: Apache-2.0
"""One checkpoint under torture: what was taken, what is true, and the sums of many."""

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from support.full_read import FullRead, read_everything
from support.memory import Pages
from support.waiting import wait_until

from icecore.daemon.round import Round
from icecore.daemon.tracker import Collected
from icecore.inject import Frozen
from icecore.kernel.procfs import children, read_stat
from icecore.storage.runs import Runs


class Missed(AssertionError):
    """A checkpoint is not what the process was."""


class Stored(AssertionError):
    """A checkpoint stored what did not change."""


@dataclass(slots=True)
class Totals:
    """What has been done, by how much of it had an effect."""

    operations: int = 0
    refused: int = 0
    checkpoints: int = 0
    missed: int = 0
    false: int = 0
    candidates: int = 0
    """Pages that were read because they might have changed, and had not."""
    changed: int = 0
    by_name: dict[str, int] = field(default_factory=dict[str, int])

    def count(self, name: str, done: bool, times: int = 1) -> None:
        if not done:
            self.refused += times
            return
        self.operations += times
        self.by_name[name] = self.by_name.get(name, 0) + times


@dataclass(frozen=True, slots=True)
class Seen:
    """What one checkpoint took for changed, beside what did."""

    named: Runs
    """Named as written by a live or the frozen round."""
    in_doubt: Runs
    unchanged: Pages
    """Pages that the checkpoint before this one has with the same bytes."""
    stored: Pages
    kind: str
    """Of the layer."""


class WatchedRound(Round):
    """A round that has the process read in full, by other means, in the very moment that it keeps."""

    truth: FullRead
    moment: Collected

    def frozen(self, frozen: Frozen) -> None:
        with _children_stopped(frozen.pid):
            super().frozen(frozen)
            self.moment = self._moment
            self.truth = read_everything(frozen.pid)


@contextmanager
def _children_stopped(pid: int) -> Generator[None]:
    """What a frozen process shares with its children stands still too: else one that was told to write just before
    may do it between the checkpoint and the reading that it is compared with.

    By SIGSTOP: a child that was traced when it was killed would have to be waited for by us before its parent can. None
    goes meanwhile: their parent is frozen."""
    stopped = children(pid)
    try:
        for child in stopped:
            os.kill(child, signal.SIGSTOP)
        wait_until(lambda: all(read_stat(child).state in "TZ" for child in stopped), "the children's stop")
        yield
    finally:
        for child in stopped:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGCONT)


class GivenUp(Exception):
    """A checkpoint that somebody interrupted."""
