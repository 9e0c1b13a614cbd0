# SPDX-License-Identifier: Apache-2.0
"""Tracking by asynchronous write protection: userfaultfd WP_ASYNC and PAGEMAP_SCAN (Linux 6.7), page by page.

The descriptor is made inside the target and taken out of it; the target itself keeps nothing and never waits for us.
If we die the kernel lifts the protection.
"""

import os
from collections.abc import Sequence

from icecore.daemon.tracker.base import Collected, Ranges
from icecore.daemon.tracker.foreign import owns_userfaultfd
from icecore.daemon.tracker.gone import target_gone
from icecore.daemon.tracker.layout import Layout, make_layout
from icecore.daemon.tracker.moment import NOTHING_KNOWN, Known, take_moment
from icecore.daemon.tracker.regions import merged
from icecore.daemon.tracker.watch import Watch
from icecore.errors import KernelLacks
from icecore.inject import Frozen, steal_userfaultfd
from icecore.kernel.pagemap import Pagemap
from icecore.kernel.procfs import Vma, read_vm_pin_kb
from icecore.kernel.userfaultfd import UFFD_FEATURE_WP_ASYNC, api
from icecore.storage.runs import EMPTY, Runs, intersect, subtract, union


class WriteProtect:
    """One target's tracker; holds its userfaultfd and its pagemap."""

    name = "write-protect"

    def __init__(self, pid: int, ranges: Ranges = (), reason: str = "") -> None:
        self.reason = reason or "the kernel has userfaultfd with WP_ASYNC, and PAGEMAP_SCAN"
        self._pid = pid
        self._ranges = ranges
        with target_gone(pid):
            self._pagemap = Pagemap(pid)
        self._userfaultfd = -1
        self._watch: Watch | None = None
        self._foreign = False
        self._layout_of: Sequence[Vma] = ()
        self._layout = make_layout((), ranges)

    def arm(self, frozen: Frozen) -> None:
        """Take a userfaultfd out of the target. Nothing is protected before the first ``collect``: that can be live."""
        with target_gone(self._pid, self._pagemap):
            self._userfaultfd = steal_userfaultfd(frozen)
            try:
                api(self._userfaultfd, UFFD_FEATURE_WP_ASYNC)
            except OSError as error:
                raise KernelLacks(
                    f"the kernel refuses asynchronous write protection: {error.strerror}",
                    "use `--tracker content`; `icecore doctor` tells what this kernel can do",
                ) from error
        self._watch = Watch(self._pid, self._pagemap, self._userfaultfd)

    def alive(self) -> bool:
        """See ``Tracker.alive``."""
        return self._pagemap.has_address_space()

    def collect(self, vmas: Sequence[Vma]) -> Runs:
        """See ``Tracker.collect``."""
        if self._watch is None:
            raise RuntimeError("collect before arm")
        with target_gone(self._pid, self._pagemap):
            self._foreign = owns_userfaultfd(self._pid)
            return self._watch.collect(self._layout_for(vmas))

    def collect_frozen(self, vmas: Sequence[Vma]) -> Collected:
        """See ``Tracker.collect_frozen``. Needs no ``arm``: what nobody watched is dirty."""
        watch = self._watch
        layout = self._layout_for(vmas)
        with target_gone(self._pid, self._pagemap):
            all_in_doubt = self._foreign or read_vm_pin_kb(self._pid) > 0
            known = NOTHING_KNOWN if watch is None else Known(watch.unwatched(layout), watch.copies)
            moment = take_moment(self._pid, self._pagemap, layout, self._ranges, known)
        populated = union(moment.private, moment.shared)
        if watch is None:
            return Collected(populated, populated, moment.zero, moment.guard, EMPTY)
        watch.copies = union(subtract(watch.copies, moment.file.looked_at), moment.file.copies)
        in_doubt = populated
        if not all_in_doubt:
            in_doubt = merged([moment.shared, moment.file.doubtful, intersect(moment.private, watch.refused)])
        return Collected(subtract(moment.written, in_doubt), populated, moment.zero, moment.guard, in_doubt)

    def _layout_for(self, vmas: Sequence[Vma]) -> Layout:
        """The same list as last time, which is common and quick to see, has the same layout."""
        if self._layout_of != vmas:
            self._layout_of, self._layout = vmas, make_layout(vmas, self._ranges)
        return self._layout

    def close(self) -> None:
        """Close the userfaultfd: the kernel lifts the protection (22 ms per protected GiB, in the target's way)."""
        self._pagemap.close()
        if self._userfaultfd >= 0:
            os.close(self._userfaultfd)
            self._userfaultfd = -1
