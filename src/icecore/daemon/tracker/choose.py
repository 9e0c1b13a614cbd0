# SPDX-License-Identifier: Apache-2.0
"""Which tracker for which target: what the kernel can do, or what the user forces."""

import functools

from icecore.daemon.tracker.base import Ranges, Tracker
from icecore.daemon.tracker.content import Content
from icecore.daemon.tracker.write_protect import WriteProtect
from icecore.errors import KernelLacks, UsageError
from icecore.kernel import pagemap, userfaultfd

NAMES = ("auto", "write-protect", "content")


def choose(pid: int, wanted: str = "auto", ranges: Ranges = ()) -> Tracker:
    """A tracker for the target, nothing done to it yet. KernelLacks: ``wanted`` does not work here."""
    if wanted not in NAMES:
        raise UsageError(f"no tracker is called {wanted!r}", f"trackers are: {', '.join(NAMES)}")
    if wanted == "content":
        return Content(pid, ranges, "asked for")
    missing = write_protect_lacks()
    if not missing:
        return WriteProtect(pid, ranges, "asked for" if wanted == "write-protect" else "")
    if wanted == "write-protect":
        raise KernelLacks(f"write-protect tracking does not work here: {missing}", "use `--tracker content`")
    return Content(pid, ranges, f"{missing}: every page is read and compared")


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
