# SPDX-License-Identifier: Apache-2.0
"""Running a function in an OS thread that ends with it."""

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def run_in_thread(function: Callable[[], T]) -> T:
    """``function()``, or what it raises, from a new thread; unlike a pool's, the thread is gone afterwards."""
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001 (raised again in the caller's thread)
            errors.append(error)

    thread = threading.Thread(target=body, name="icecore-checkpoint")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
