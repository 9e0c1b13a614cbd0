# SPDX-License-Identifier: Apache-2.0
"""What the torture needs of the whole machine: a quick KSM, reserved huge pages; all of it given back afterwards."""

from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from support.waiting import wait_until

KSM = Path("/sys/kernel/mm/ksm")
KSM_SETTINGS = {"sleep_millisecs": "1", "pages_to_scan": "20000"}
HUGE_PAGES = Path("/proc/sys/vm/nr_hugepages")


@contextmanager
def settings(changes: dict[Path, str]) -> Generator[bool]:
    """Write each value where the file exists and lets itself be written; yields whether all did; puts back what was."""
    before: dict[Path, str] = {}
    try:
        with suppress(OSError):
            for path, value in changes.items():
                was = path.read_text(encoding="ascii").strip()
                path.write_text(value, encoding="ascii")
                before[path] = was
        yield len(before) == len(changes)
    finally:
        for path, value in reversed(before.items()):
            path.write_text(value, encoding="ascii")


@contextmanager
def ksm_and_huge_pages() -> Generator[None]:
    """KSM is quick, and four huge pages are reserved, if the kernel has either."""
    with settings({KSM / name: value for name, value in KSM_SETTINGS.items()}), settings({HUGE_PAGES: "4"}):
        yield


def merge_equal_pages(pid: int) -> bool:
    """Two passes of KSM over all memory that is marked mergeable: a page that has not changed from one pass to the next
    is merged with its like. False: there is no KSM here, or it has nothing of this process to look at."""
    if not _mergeable(pid):
        return False
    with settings({KSM / "run": "1"}) as works:
        if works:
            seen = _passes()
            wait_until(lambda: _passes() >= seen + 2, "KSM")
        return works


def _mergeable(pid: int) -> bool:
    """Whether any mapping is marked, as the kernel sees it: madvise succeeds on shared memory and marks nothing. Where
    nothing in the whole system is marked, ksmd sleeps, and no pass ever ends."""
    lines = Path(f"/proc/{pid}/smaps").read_text(encoding="ascii", errors="replace").splitlines()
    return any(line.startswith("VmFlags:") and "mg" in line.split() for line in lines)


def _passes() -> int:
    return int((KSM / "full_scans").read_text(encoding="ascii"))
