# SPDX-License-Identifier: Apache-2.0
"""A victim's life up to its checkpoint, in one call."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from support.programs import c_program
from support.snapshot import Snapshot, take
from support.victim import Victim


@dataclass(frozen=True, slots=True)
class Moment:
    """A dead victim's checkpoint and its last answer."""

    snapshot: Snapshot
    answer: str

    @property
    def pid(self) -> int:
        """The pid that a restore gives it again."""
        return self.snapshot.process.pid

    def restored(self) -> Victim:
        """The victim again, with new pipes to talk to it."""
        return Victim.restored_from(self.snapshot)


def moment_of(argv: Sequence[str | Path], command: str = "check", *, user: int | None = None) -> Moment:
    """Start a victim, give it a command, take its checkpoint; it is dead then."""
    with Victim.start(argv, user=user) as victim:
        answer = victim.expect("ok", command)
        snapshot = take(victim.pid)
        victim.wait()
    return Moment(snapshot, answer)


def moment_of_c(name: str, *arguments: str | Path, command: str = "check", user: int | None = None) -> Moment:
    """The same of one of the C victims."""
    return moment_of([c_program(name), *arguments], command, user=user)
