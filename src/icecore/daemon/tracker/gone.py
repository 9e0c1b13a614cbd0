# SPDX-License-Identifier: Apache-2.0
"""The end of an address space, in the kernel's words and in ours."""

from collections.abc import Generator
from contextlib import contextmanager

from icecore.errors import NotPermitted, TargetGone
from icecore.kernel.pagemap import Pagemap


@contextmanager
def target_gone(pid: int, pagemap: Pagemap | None = None) -> Generator[None]:
    """ESRCH of the pagemap (the address space is no more) and missing /proc files become TargetGone.

    Kernels before 6.12.117 scan a dead address space without complaint and find nothing, so ``pagemap`` is asked once
    more at the end.
    """
    try:
        yield
        if pagemap is not None and not pagemap.has_address_space():
            raise ProcessLookupError
    except (ProcessLookupError, FileNotFoundError):
        raise TargetGone(f"process {pid} exited or executed another program") from None
    except PermissionError:
        raise NotPermitted(f"the kernel does not let us look at process {pid}", "run as its owner or as root") from None
