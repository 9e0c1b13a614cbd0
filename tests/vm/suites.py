# SPDX-License-Identifier: Apache-2.0
"""Which tests run under which kernel in ``make test``: a choice, for a guest is 15 to 20 times slower."""

from dataclasses import dataclass

EVERYWHERE = (
    "tests/kernel",
    "tests/inject",
    "tests/daemon/test_doctor.py",
    "tests/daemon/test_capture.py",
    "tests/daemon/test_capture_files.py",
    "tests/daemon/test_exact.py",
    "tests/daemon/test_soft_dirty.py",
    "tests/daemon/test_tracker_clients.py",
    "tests/daemon/test_tracker_events.py",
    "tests/daemon/test_two_chains.py",
    "tests/restore",
    "tests/test_tracking_doc.py",
    "tests/torture",
)
WRITE_PROTECT = ("tests/daemon/test_tracker_write_protect.py",)
TOO_SLOW = (
    # Three threads that freeze one process again and again get in each other's way for seconds on one emulated
    # processor, which is longer than any of them waits.
    "tests/daemon/test_two_chains.py::test_at_the_same_time_from_two_threads",
    # A test of the test: it shrinks a sequence, in 76 s.
    "tests/torture/test_torture.py::test_the_torture_notices",
)
ONE_WAY = "not (test_tracker_events and (frozen or twice))"
"""Each event there in one of the three ways of looking at it: the table of events and the torture take the others."""


@dataclass(frozen=True, slots=True)
class Suite:
    """What one boot runs."""

    paths: tuple[str, ...]
    left_out: tuple[str, ...] = TOO_SLOW
    seconds: float = 3600.0
    """Until the guest is given up, on a machine that does other things as well."""

    @property
    def words(self) -> list[str]:
        """For pytest's command line."""
        return [*self.paths, "-k", ONE_WAY, *(f"--deselect={name}" for name in self.left_out)]


SUITES = {
    "6.1": Suite(EVERYWHERE),
    "6.12": Suite(EVERYWHERE + WRITE_PROTECT),
    "7.x": Suite(EVERYWHERE + WRITE_PROTECT),
}
"""By the kernel's name in ``vm.kernels``."""
