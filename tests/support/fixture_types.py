# SPDX-License-Identifier: Apache-2.0
"""The types of the fixtures in ``tests/kernel/conftest.py``."""

import mmap
from collections.abc import Callable

PAGE = 4096
Memory = Callable[[int], tuple[mmap.mmap, int]]
"""``memory(pages)``: a fresh private anonymous mapping and its address."""
Fork = Callable[[], int]
"""``sleeper()``: the pid of a child that waits for its end."""
