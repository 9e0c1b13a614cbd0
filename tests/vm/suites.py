# SPDX-License-Identifier: Apache-2.0
"""Which tests run under which kernel in ``make test``: a choice, for a guest is 15 to 20 times slower."""

from dataclasses import dataclass

EVERYWHERE = ("tests/kernel", "tests/inject")
TRACKERS = ("tests/daemon/test_tracker_events.py", "tests/daemon/test_tracker_write_protect.py")


@dataclass(frozen=True, slots=True)
class Suite:
    """What one boot runs."""

    paths: tuple[str, ...]
    seconds: float = 1800.0
    """Until the guest is given up, on a machine that does other things as well."""


SUITES = {
    "6.1": Suite(EVERYWHERE),
    "6.12": Suite(EVERYWHERE + TRACKERS),
    "7.x": Suite(EVERYWHERE + TRACKERS),
}
"""By the kernel's name in ``vm.kernels``."""
