# SPDX-License-Identifier: Apache-2.0
"""Two threads for compressing and hashing, results in order, and a bound on what is in flight."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

Result = TypeVar("Result")

THREADS: Final = 2
IN_FLIGHT: Final = 8
"""Jobs of about 1 MiB; with their intermediate copies (XOR, frame) some 30 MiB."""


class Workers(Generic[Result]):
    """``submit`` jobs; ``deliver`` gets each result in the order of submission, in the submitting thread."""

    def __init__(self, deliver: Callable[[Result], None]) -> None:
        self._deliver = deliver
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="icecore-storage")
        self._queue: deque[Future[Result]] = deque()

    def submit(self, job: Callable[[], Result]) -> None:
        """Waits for the oldest job when too many are in flight. Raises what an earlier job or ``deliver`` raised."""
        while len(self._queue) >= IN_FLIGHT or (self._queue and self._queue[0].done()):
            self._deliver(self._queue.popleft().result())
        self._queue.append(self._pool.submit(job))

    def finish(self) -> None:
        """Wait for every job."""
        while self._queue:
            self._deliver(self._queue.popleft().result())

    def close(self) -> None:
        """Drop what has not begun, wait for what has."""
        self._queue.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
