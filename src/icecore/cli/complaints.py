# SPDX-License-Identifier: Apache-2.0
"""Failing checkpoints of a job that goes on: said once, tried again at a slower pace."""

from icecore.cli import output
from icecore.errors import IcecoreError

SLOWEST = 60.0
"""Seconds between two attempts at most, unless the interval is longer."""


class Complaints:
    """Counts failures in a row. Not every second the same message: only a new one, and when it is over."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._failures = 0
        self._said = ""

    def pace(self) -> float:
        """Seconds until the next attempt: the interval, after failures twice it, four times..."""
        return min(self._interval * 2.0 ** min(self._failures, 16), max(self._interval, SLOWEST))

    def failed(self, problem: IcecoreError) -> None:
        """Notes a failure; tells the person if it is news."""
        self._failures += 1
        if problem.message != self._said:
            self._said = problem.message
            output.error(problem)
            output.note("the job goes on without checkpoints; icecore keeps trying")

    def succeeded(self) -> None:
        """Notes a success; tells the person if it was in doubt."""
        if self._failures:
            output.note("checkpoints are being taken again")
        self._failures, self._said = 0, ""
