# SPDX-License-Identifier: Apache-2.0
"""Several clients, one state of tracking: a page that is collected for one stays pending for the others.

Pages of clients are in their ranges; what one client's collect re-armed (or one clear made clean) no later collect
names again, so it is noted for every other client whose ranges have it.
"""

from dataclasses import dataclass, field

from icecore.storage.runs import EMPTY, Runs, intersect, subtract, union


@dataclass(eq=False, slots=True)
class Claim:
    """One client's share."""

    covered: Runs = field(default_factory=lambda: EMPTY)
    """Where everything that others collected since this client's last collect is in ``pending``."""
    pending: Runs = field(default_factory=lambda: EMPTY)
    """Collected by others, not yet named to this client."""

    def uncovered(self, scope: Runs) -> Runs:
        """The part of ``scope`` in which others may have collected what this client was never told of."""
        return subtract(scope, self.covered)

    def settle(self, scope: Runs) -> Runs:
        """This client is about to be told of everything in ``scope``: the pages that were pending there."""
        waiting = intersect(self.pending, scope)
        self.covered, self.pending = scope, EMPTY
        return waiting


class Claims:
    """All clients of one address space. Not locked: its ``Turn`` is held by whoever calls."""

    def __init__(self) -> None:
        self._all: list[Claim] = []

    def __len__(self) -> int:
        return len(self._all)

    def join(self) -> Claim:
        """A new client, to which all of its ranges are new."""
        claim = Claim()
        self._all.append(claim)
        return claim

    def leave(self, claim: Claim) -> Runs:
        """A client goes; the pages that it had to itself."""
        self._all.remove(claim)
        mine = claim.covered
        for other in self._all:
            mine = subtract(mine, other.covered)
        return mine

    def collected(self, by: Claim, pages: Runs) -> None:
        """``pages`` are being named to ``by`` and will not be found again."""
        if not len(pages):
            return
        for claim in self._all:
            if claim is not by:
                claim.pending = union(claim.pending, intersect(pages, claim.covered))

    def distrust(self) -> None:
        """A collect broke off half-way: nobody knows what it found, so everybody looks at everything again."""
        for claim in self._all:
            claim.covered = claim.pending = EMPTY
