# SPDX-License-Identifier: Apache-2.0
"""Which trackers work on the running kernel, found out by trying."""

import functools
import os

from icecore.daemon.tracker import NAMES, choose
from icecore.errors import KernelLacks


@functools.cache
def working_trackers() -> tuple[str, ...]:
    """Their names."""
    return tuple(name for name in NAMES if name != "auto" and _works(name))


def _works(name: str) -> bool:
    try:
        choose(os.getpid(), name).close()
    except KernelLacks:
        return False
    return True
