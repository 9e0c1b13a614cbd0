# SPDX-License-Identifier: Apache-2.0
"""Waiting for what nobody announces: what the kernel shows in /proc and nowhere else."""

import select
import time
from collections.abc import Callable

DEADLINE = 20.0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Until the condition holds; AssertionError after 20 s. For a peer of ours a pipe is the right thing, not this."""
    end = time.monotonic() + DEADLINE
    pause = 0.0005
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {DEADLINE:.0f} s"
        select.select([], [], [], pause)
        pause = min(pause * 2, 0.05)
