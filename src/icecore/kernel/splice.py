# SPDX-License-Identifier: Apache-2.0
"""tee(2): copy what is in a pipe without taking it out. (splice itself is ``os.splice``.)"""

from icecore.kernel.arch.x86_64 import SYS_tee
from icecore.kernel.libc import syscall

SPLICE_F_MOVE = 1
SPLICE_F_NONBLOCK = 2
SPLICE_F_MORE = 4


def tee(fd_in: int, fd_out: int, length: int, flags: int = SPLICE_F_NONBLOCK) -> int:
    """Bytes duplicated from one pipe to another; 0: nothing to come. EAGAIN: ``fd_in`` empty or ``fd_out`` full."""
    return syscall(SYS_tee, fd_in, fd_out, length, flags, what="tee")
