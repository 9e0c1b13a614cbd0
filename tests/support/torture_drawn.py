# SPDX-License-Identifier: Apache-2.0
"""Sequences of the torture by the number of their seed: drawn by hypothesis, and kept for those whose time is dear.

Drawing takes as long as playing does, and in a guest twenty times longer: so the host draws for its guests, into the
directory of the victims' programs, which they have too.
"""

import functools
import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from importlib.metadata import version
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from support import torture_operations
from support.programs import cache_directory

EFFECT = 0.45
"""At least so many lines of a sequence have an effect; the kernel refuses the others."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What sequences look like."""

    longest: int
    """Checkpoints, at most."""
    fewest: int
    most: int
    """Operations between two of them."""
    districts: int
    """Among which these are spread."""
    twice: bool
    """One more checkpoint at the end, of a process that has done nothing since the one before."""
    examples: int
    """Sequences from one seed."""


CLOSE = Plan(longest=14, fewest=15, most=45, districts=1, twice=True, examples=50)
"""Short steps, many checkpoints."""
WIDE = Plan(longest=4, fewest=140, most=260, districts=7, twice=False, examples=40)
"""For guests, where a checkpoint takes 0.3 s and an operation next to nothing."""


def each(plan: Plan, number: int, use: Callable[[list[str]], None], *phases: Phase) -> None:
    """Hand all sequences of one seed to ``use``, the same ones each time; Phase.shrink: and a failing one's smaller
    relatives."""

    @seed(number)
    @settings(
        max_examples=plan.examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, *phases],
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example),
    )
    @given(torture_operations.sequences(plan.longest, plan.fewest, plan.most, plan.districts, plan.twice))
    def one(lines: list[str]) -> None:
        use(lines)

    one()


@functools.lru_cache(maxsize=16)
def drawn(plan: Plan, number: int) -> Sequence[list[str]]:
    """The sequences of one seed, from where they are kept if they are."""
    place = _place(plan, number)
    if place.exists():
        return [text.split("\n") for text in place.read_text(encoding="ascii").split("\n\n")]
    found: list[list[str]] = []
    each(plan, number, found.append)
    return found


def keep(plan: Plan, first: int, operations: int) -> None:
    """Draw for that many operations, from seed ``first`` on."""
    for number in itertools.count(first):
        sequences = drawn(plan, number)
        place = _place(plan, number)
        if not place.exists():
            unfinished = place.with_suffix(".unfinished")
            unfinished.write_text("\n\n".join("\n".join(lines) for lines in sequences), encoding="ascii")
            unfinished.rename(place)
        operations -= int(sum(map(len, sequences)) * EFFECT)
        if operations <= 0:
            return


def _place(plan: Plan, number: int) -> Path:
    source = Path(torture_operations.__file__).read_text(encoding="utf-8")
    digest = hashlib.sha256(
        f"{source}{version('hypothesis')}{astuple(plan)}{torture_operations.BUSY}".encode()
    ).hexdigest()
    return cache_directory() / f"sequences-{digest[:16]}-{number}"
