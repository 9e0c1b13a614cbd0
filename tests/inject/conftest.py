# SPDX-License-Identifier: Apache-2.0
"""A target for the injection tests: it counts, sleeps and counts signals, and says when any of it went wrong."""

import sys
from collections.abc import Iterator

import pytest
from support.victim import Victim

SLEEPER = r"""
import os, signal, sys, threading, time
caught = []
signal.signal(signal.SIGUSR1, lambda number, frame: caught.append(number))
stop = threading.Event()
failures = []
def sleep():
    while not stop.is_set():
        started = time.monotonic()
        time.sleep(0.02)
        if time.monotonic() - started < 0.02:
            failures.append("slept too short")
for _ in range(3):
    threading.Thread(target=sleep, daemon=True).start()
print("ready", os.getpid(), flush=True)
for line in sys.stdin:
    print("FAIL" if failures else "ok", len(caught), threading.active_count(), flush=True)
"""


@pytest.fixture
def sleeper() -> Iterator[Victim]:
    """A CPython with four threads in nanosleep and read, which counts SIGUSR1."""
    with Victim.start([sys.executable, "-I", "-c", SLEEPER]) as victim:
        yield victim
