# SPDX-License-Identifier: Apache-2.0
"""Small reads and writes of another process's memory: whole or not at all."""

import os

import numpy as np
from numpy.typing import NDArray

from icecore.errors import NotPermitted, TargetGone
from icecore.kernel import process_vm


def peek(pid: int, address: int, size: int) -> bytes:
    """``size`` bytes of the memory that the process has now; it must be readable."""
    buffer = np.empty(size, np.uint8)
    if process_vm.readv(pid, buffer, *_span(address, size)) != size:
        raise _gone(pid, address)
    return buffer.tobytes()


def poke(pid: int, address: int, data: bytes) -> None:
    """Write ``data``; the memory must be writable."""
    if process_vm.writev(pid, np.frombuffer(data, np.uint8), *_span(address, len(data))) != len(data):
        raise _gone(pid, address)


def _span(address: int, size: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    return np.array([address], np.uint64), np.array([size], np.uint64)


def _gone(pid: int, address: int) -> TargetGone:
    return TargetGone(f"memory at {address:#x} of process {pid} is gone: it exited or executed another program")


class TargetMemory:
    """An open /proc/PID/mem: any protection, and bound to the address space that the process had when it was opened."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        try:
            self._fd = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        except PermissionError:
            raise NotPermitted(
                f"the kernel does not let us write the memory of process {pid}", "run as its owner or as root"
            ) from None

    def read(self, address: int, size: int) -> bytes:
        """All ``size`` bytes, or TargetGone."""
        try:
            data = os.pread(self._fd, size, address)
        except OSError:
            data = b""
        if len(data) != size:
            raise _gone(self._pid, address)
        return data

    def write(self, address: int, data: bytes) -> None:
        """All of ``data``, or TargetGone. In a private mapping the page becomes the process's own."""
        try:
            done = os.pwrite(self._fd, data, address)
        except OSError:
            done = 0
        if done != len(data):
            raise _gone(self._pid, address)

    def require_current(self, address: int, data: bytes) -> None:
        """TargetGone unless the process as it is now has ``data`` there: it may have called exec since we opened."""
        if peek(self._pid, address, len(data)) != data:
            raise TargetGone(f"process {self._pid} executed another program while it was being stopped")

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
