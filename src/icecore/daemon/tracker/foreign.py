# SPDX-License-Identifier: Apache-2.0
"""What may change a target's memory, or the marks on it, without its page tables telling.

A device, or the kernel on its own account, writes to pinned pages: registered buffers of io_uring, RDMA, direct I/O on
its way. Pinning counts as a write, so pages that are pinned after they were armed are found anyway. Pages that were
pinned already are not: they are armed, and silent from then on, whatever becomes of the pin.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

from icecore.kernel.procfs import Vma, fd_link, fd_numbers, read_maps, read_vm_pin_kb

USERFAULTFD = "anon_inode:[userfaultfd]"
IO_URING = "anon_inode:[io_uring]"
AIO = "/[aio]"
HUGETLB = "/anon_hugepage"


class Foreign:
    """Who else has a hand in a target's memory; one for all who track it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._protector = False
        self._writer = False

    @property
    def suspected(self) -> bool:
        """Whether the bits of pages that are armed by now prove nothing."""
        return self._protector or self._writer

    @contextmanager
    def arming(self, distrust: Callable[[], None]) -> Generator[None]:
        """Around whatever arms pages and says which, before they are read.

        ``distrust``: a writer that was there when pages were armed is gone; all must be named once more. A writer that
        comes after the first look and goes before the second writes to pages that are named, and not yet read.
        """
        writer = self._look()
        if self._writer and not writer:
            distrust()
        self._writer = True
        yield
        self._writer = self._look() or writer

    def _look(self) -> bool:
        """Whether there may be such a writer. fdinfo's UserBufs would tell of registered buffers (VmPin does not, from
        Linux 7 on), but not of direct reads, nor of rings that lie in the target's own memory."""
        held = _held(self._pid)
        self._protector = USERFAULTFD in held
        return IO_URING in held or read_vm_pin_kb(self._pid) > 0 or any(map(_is_ring, read_maps(self._pid)))


def is_hugetlb(vma: Vma) -> bool:
    """Huge pages of MAP_HUGETLB: on kernels before 6.12.97 write-protecting them by a scan deadlocks."""
    return vma.path.startswith(HUGETLB)


def _held(pid: int) -> set[str]:
    """What the descriptors lead to."""
    found: set[str] = set()
    for fd in fd_numbers(pid):
        with suppress(FileNotFoundError):
            found.add(fd_link(pid, fd))
    return found


def _is_ring(vma: Vma) -> bool:
    """Of io_uring, its descriptor perhaps closed; or of Linux's older asynchronous I/O, which has none."""
    return vma.path.startswith((IO_URING, AIO))
