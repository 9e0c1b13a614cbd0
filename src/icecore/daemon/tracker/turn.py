# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is with a process: it has one tracer at a time, and one state of tracking that all its clients share.

Whoever freezes a process, injects into it or moves its tracking holds its turn, taken before the freeze: no pause ever
waits for another client. What takes long (reading, encoding, writing) is done without it.
"""

import threading
from types import TracebackType
from weakref import WeakValueDictionary


class Turn:
    """The lock of one process; a thread that holds it may take it again."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


_turns: WeakValueDictionary[tuple[int, int], Turn] = WeakValueDictionary()
_guard = threading.Lock()


def turn_of(pid: int, start_time: int) -> Turn:
    """The one of this process, whoever asks; it exists as long as somebody keeps it."""
    with _guard:
        found = _turns.get((pid, start_time))
        if found is None:
            found = _turns[pid, start_time] = Turn()
        return found
