# SPDX-License-Identifier: Apache-2.0
"""Which tracker for which target: what the kernel can do, or what the user forces."""

import functools

from icecore.daemon.tracker.base import Ranges, Tracker
from icecore.daemon.tracker.content import Content
from icecore.daemon.tracker.soft_dirty import SoftDirty
from icecore.daemon.tracker.soft_dirty_probe import soft_dirty_lacks
from icecore.daemon.tracker.write_protect import WriteProtect
from icecore.errors import KernelLacks, UsageError
from icecore.kernel import pagemap, userfaultfd

NAMES = ("auto", "write-protect", "soft-dirty", "content")
ASKED_FOR = "asked for"


def choose(pid: int, wanted: str = "auto", ranges: Ranges = (), exact: bool = True) -> Tracker:
    """A tracker for the target, nothing done to it yet. KernelLacks: ``wanted`` does not work here."""
    if wanted not in NAMES:
        raise UsageError(f"no tracker is called {wanted!r}", f"trackers are: {', '.join(NAMES)}")
    if wanted == "auto":
        return _best(pid, ranges, exact)
    if wanted == "content":
        return Content(pid, ranges, ASKED_FOR)
    missing = write_protect_lacks() if wanted == "write-protect" else soft_dirty_lacks()
    if missing:
        raise KernelLacks(f"{wanted} tracking does not work here: {missing}", "use `--tracker content`")
    if wanted == "write-protect":
        return WriteProtect(pid, ranges, ASKED_FOR)
    return SoftDirty(pid, ranges, ASKED_FOR, exact)


def _best(pid: int, ranges: Ranges, exact: bool) -> Tracker:
    if not (no_protection := write_protect_lacks()):
        return WriteProtect(pid, ranges)
    if not (no_marks := soft_dirty_lacks()):
        return SoftDirty(pid, ranges, f"{no_protection}; but it marks written pages as soft-dirty", exact)
    return Content(pid, ranges, f"{no_protection}; {no_marks}: every page is read and compared")


@functools.cache
def write_protect_lacks() -> str:
    """What this kernel lacks for the write-protect tracker; empty if nothing."""
    if not pagemap.available():
        return "the kernel has no PAGEMAP_SCAN (Linux 6.7)"
    try:
        features = userfaultfd.probe()
    except OSError as error:
        return f"no userfaultfd ({error.strerror})"
    if not features & userfaultfd.UFFD_FEATURE_WP_ASYNC:
        return "userfaultfd has no WP_ASYNC (Linux 6.7)"
    return ""
