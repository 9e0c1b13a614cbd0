# SPDX-License-Identifier: Apache-2.0
"""process_vm_readv(2) and process_vm_writev(2) for scatter lists of any length and one buffer of our own.

The remote side must be readable (writable) by its protection: no PROT_NONE, no guard pages; /proc/PID/mem can do
those. Reading a page that was never touched populates it.
"""

import ctypes
import errno
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from icecore.kernel.libc import libc, oserror

IOV_MAX = 1024
MAX_BATCH = 1 << 30
"""Bytes in one call: the kernel would silently cut one at 0x7ffff000."""
IOVEC = np.dtype([("base", "<u8"), ("len", "<u8")])
"""struct iovec."""

Buffer = NDArray[np.uint8] | bytes | bytearray | memoryview
Addresses = NDArray[np.uint64]

_Call = Callable[[int, int, int, int, int, int], int]


def _function(name: str) -> _Call:
    function = libc[name]
    function.restype = ctypes.c_ssize_t
    function.argtypes = (
        ctypes.c_int, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong
    )  # fmt: skip
    return function


_readv = _function("process_vm_readv")
_writev = _function("process_vm_writev")


def readv(pid: int, local: Buffer, starts: Addresses, lengths: Addresses) -> int:
    """Fill ``local`` (contiguous) with the ranges ``starts``, ``lengths`` of the process, one after the other.

    Returns the bytes read, without a gap from the first range on: less than asked for if a page could not be read, 0
    if that is the first. Each length is at most MAX_BATCH. Raises ESRCH, EPERM. The GIL is released.
    """
    return _transfer(_readv, pid, local, starts, lengths)


def writev(pid: int, local: Buffer, starts: Addresses, lengths: Addresses) -> int:
    """Write ``local`` (contiguous) over the ranges of the process; returns the bytes written, see ``readv``."""
    return _transfer(_writev, pid, local, starts, lengths)


def _transfer(function: _Call, pid: int, local: Buffer, starts: Addresses, lengths: Addresses) -> int:
    buffer = local.reshape(-1).view(np.uint8) if isinstance(local, np.ndarray) else np.frombuffer(local, np.uint8)
    remote = np.empty(len(starts), IOVEC)
    remote["base"], remote["len"] = starts, lengths
    ends = np.cumsum(lengths, dtype=np.uint64)
    if len(ends) and (int(ends[-1]) > buffer.nbytes or int(np.max(lengths)) > MAX_BATCH):
        raise ValueError(f"{int(ends[-1])} bytes asked for, buffer of {buffer.nbytes}, ranges of {MAX_BATCH} at most")
    own = np.empty(1, IOVEC)
    done = first = 0
    while first < len(remote):
        last = min(first + IOV_MAX, int(np.searchsorted(ends, done + MAX_BATCH, "right")))
        wanted = int(ends[last - 1]) - done
        own[0] = (buffer.ctypes.data + done, wanted)
        got = _one(function, pid, own, remote[first:last])
        done += got
        if got < wanted:
            break
        first = last
    return done


def _one(function: _Call, pid: int, own: NDArray[np.void], remote: NDArray[np.void]) -> int:
    result = function(pid, own.ctypes.data, 1, remote.ctypes.data, len(remote), 0)
    if result >= 0:
        return result
    if ctypes.get_errno() == errno.EFAULT:
        return 0
    raise oserror(f"process_vm_* of {pid}")
