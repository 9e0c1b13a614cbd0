# SPDX-License-Identifier: Apache-2.0
"""Things about a target that make the answers of its page tables doubtful."""

from contextlib import suppress

from icecore.kernel.procfs import Vma, fd_link, fd_numbers

USERFAULTFD = "anon_inode:[userfaultfd]"
HUGETLB = "/anon_hugepage"


def owns_userfaultfd(pid: int) -> bool:
    """Whether the target holds a userfaultfd: it may protect and unprotect pages by itself, without telling."""
    for fd in fd_numbers(pid):
        with suppress(FileNotFoundError):
            if fd_link(pid, fd) == USERFAULTFD:
                return True
    return False


def is_hugetlb(vma: Vma) -> bool:
    """Huge pages of MAP_HUGETLB: on kernels before 6.12.97 write-protecting them by a scan deadlocks."""
    return vma.path.startswith(HUGETLB)
