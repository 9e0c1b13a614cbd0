# SPDX-License-Identifier: Apache-2.0
"""/proc/PID/pagemap: the PAGEMAP_SCAN ioctl (Linux 6.7) and the 64-bit entries that read(2) gives.

Constants are those of linux/fs.h. What the categories mean for a checkpoint is not decided here: see the trackers.
"""

import array
import errno
import fcntl
import functools
import os
import struct
from collections.abc import Iterable
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

PAGE_SIZE = 4096
PAGEMAP_SCAN = 0xC0606610

PM_SCAN_WP_MATCHING = 1 << 0
PM_SCAN_CHECK_WPASYNC = 1 << 1

PAGE_IS_WPALLOWED = 1 << 0
PAGE_IS_WRITTEN = 1 << 1
PAGE_IS_FILE = 1 << 2
PAGE_IS_PRESENT = 1 << 3
PAGE_IS_SWAPPED = 1 << 4
PAGE_IS_PFNZERO = 1 << 5
PAGE_IS_HUGE = 1 << 6
PAGE_IS_SOFT_DIRTY = 1 << 7
PAGE_IS_GUARD = 1 << 8
CATEGORIES = {
    "WPALLOWED": PAGE_IS_WPALLOWED,
    "WRITTEN": PAGE_IS_WRITTEN,
    "FILE": PAGE_IS_FILE,
    "PRESENT": PAGE_IS_PRESENT,
    "SWAPPED": PAGE_IS_SWAPPED,
    "PFNZERO": PAGE_IS_PFNZERO,
    "HUGE": PAGE_IS_HUGE,
    "SOFT_DIRTY": PAGE_IS_SOFT_DIRTY,
    "GUARD": PAGE_IS_GUARD,
}

PM_SOFT_DIRTY = 1 << 55
PM_MMAP_EXCLUSIVE = 1 << 56
PM_UFFD_WP = 1 << 57
PM_GUARD_REGION = 1 << 58
PM_FILE = 1 << 61
PM_SWAP = 1 << 62
PM_PRESENT = 1 << 63

REGION = np.dtype([("start", "<u8"), ("end", "<u8"), ("categories", "<u8")])
"""struct page_region: [start, end) in bytes, and the categories that were asked for in ``returned``."""

Regions = np.ndarray[tuple[int, ...], np.dtype[np.void]]

_ARGUMENT = struct.Struct("=12Q")
_WALK_END = struct.Struct("=Q")
_WALK_END_OFFSET = 32
_VEC_LENGTH = 16384


class Pagemap:
    """An open /proc/PID/pagemap; bound to the address space that the process had when it was opened.

    After exit or exec of the process every scan raises ESRCH. Opening needs PTRACE_MODE_READ only, also for
    PM_SCAN_WP_MATCHING. Not safe for two threads at once: the result buffer is shared.
    """

    def __init__(self, pid: int) -> None:
        self._fd = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        self._vec = np.empty((_VEC_LENGTH, 3), np.uint64)
        self._vec_address = self._vec.ctypes.data

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def has_address_space(self) -> bool:
        """Whether the address space still exists, by read(2): before 6.12.117 a scan of a dead one finds nothing."""
        return len(os.pread(self._fd, 8, 0)) == 8

    def scan(
        self,
        start: int,
        end: int,
        *,
        returned: int,
        flags: int = 0,
        inverted: int = 0,
        mask: int = 0,
        anyof: int = 0,
    ) -> Regions:
        """The matching regions of [start, end), both page-aligned bytes, in order; neighbours that are equal are one.

        A page matches if ``(categories ^ inverted) & mask == mask`` and, unless ``anyof`` is 0, ``(categories ^
        inverted) & anyof`` is not 0. Raises EPERM (PM_SCAN_CHECK_WPASYNC and a mapping that is not), ESRCH (the
        address space is gone), EINVAL (unknown category). An error from a PM_SCAN_WP_MATCHING scan loses pages: those
        before the failing one are protected again although nobody was told of them.
        """
        return self.scan_spans(
            ((start, end),), returned=returned, flags=flags, inverted=inverted, mask=mask, anyof=anyof
        )

    def scan_spans(
        self,
        spans: Iterable[tuple[int, int]],
        *,
        returned: int,
        flags: int = 0,
        inverted: int = 0,
        mask: int = 0,
        anyof: int = 0,
    ) -> Regions:
        """``scan`` of several spans, the regions of all one after the other; cheaper than one by one."""
        parts: list[NDArray[np.uint64]] = []
        argument = bytearray(_ARGUMENT.size)
        used = 0
        for start, end in spans:
            while start < end:
                room = _VEC_LENGTH - used
                _ARGUMENT.pack_into(
                    argument, 0, _ARGUMENT.size, flags, start, end, 0, self._vec_address + used * REGION.itemsize, room,
                    0, inverted, mask, anyof, returned,
                )  # fmt: skip
                count = fcntl.ioctl(self._fd, PAGEMAP_SCAN, argument)
                used += count
                start = self._resume(argument, used) if count == room else end
                if used == _VEC_LENGTH:
                    parts.append(self._vec.copy())
                    used = 0
        parts.append(self._vec[:used].copy())
        rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return rows.view(REGION).reshape(-1)

    def _resume(self, argument: bytearray, used: int) -> int:
        """Where to go on when the buffer was full.

        The kernel walks in batches of 512 regions, and if the last one ends with the range, walk_end still says where
        that batch began (seen on 6.18): trusting it would return regions twice.
        """
        (walk_end,) = _WALK_END.unpack_from(argument, _WALK_END_OFFSET)
        return max(int(walk_end), int(self._vec[used - 1, 1]))

    def entry(self, page: int) -> bytes:
        """The eight bytes of one entry, by page number."""
        return os.pread(self._fd, 8, page * 8)

    def entries(self, start: int, end: int) -> NDArray[np.uint64]:
        """One PM_* entry for each page of [start, end): 40 times slower than a scan, but older (Linux 2.6.25)."""
        count = (end - start) // PAGE_SIZE
        data = os.pread(self._fd, count * 8, start // PAGE_SIZE * 8)
        found = np.zeros(count, np.uint64)
        read = np.frombuffer(data, np.uint64)
        found[: len(read)] = read
        return found


def available() -> bool:
    """Whether this kernel has PAGEMAP_SCAN, found by scanning a page of our own."""
    return _accepts(PAGE_IS_PRESENT)


@functools.cache
def supported_categories() -> int:
    """The PAGE_IS_* bits that this kernel knows, each tried on a page of our own; 0 without PAGEMAP_SCAN."""
    return sum(bit for bit in CATEGORIES.values() if _accepts(bit))


def _accepts(category: int) -> bool:
    own = array.array("B", bytes(PAGE_SIZE))
    address = own.buffer_info()[0] & -PAGE_SIZE
    try:
        with Pagemap(os.getpid()) as pagemap:
            pagemap.scan(address, address + PAGE_SIZE, returned=category, anyof=category)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTTY):
            return False
        raise
    return True
