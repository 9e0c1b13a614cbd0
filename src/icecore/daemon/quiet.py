# SPDX-License-Identifier: Apache-2.0
"""Nothing else may take time while a target is frozen."""

import gc
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress

FIRST = -20
"""The nice value that comes before all others. On a busy machine it shortens a pause to a third; a real-time class
would starve the target's own threads, which must run injected calls while we wait for them."""


@contextmanager
def undisturbed() -> Generator[None]:
    """The garbage collector may not pick the pause for its work, and others on this processor wait."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        with _first_in_line():
            yield
    finally:
        if collecting:
            gc.enable()


@contextmanager
def _first_in_line() -> Generator[None]:
    """Of this thread only; without the right to it (CAP_SYS_NICE) nothing changes."""
    thread = threading.get_native_id()
    before = os.getpriority(os.PRIO_PROCESS, thread)
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, thread, FIRST)
    try:
        yield
    finally:
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, thread, before)
