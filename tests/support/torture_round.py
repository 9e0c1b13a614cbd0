# SPDX-License-Identifier: Apache-2.0
"""One checkpoint under torture: what was taken, what is true, and the sums of many."""

from dataclasses import dataclass, field

from support.full_read import FullRead, read_everything
from support.memory import Pages

from icecore.daemon.round import Round
from icecore.daemon.tracker import Collected
from icecore.inject import Frozen


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

    named: Pages
    """Named as written by a live or the frozen round."""
    in_doubt: Pages
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
        super().frozen(frozen)
        self.moment = self._moment
        self.truth = read_everything(frozen.pid)


class GivenUp(Exception):
    """A checkpoint that somebody interrupted."""
