# SPDX-License-Identifier: Apache-2.0
"""The write lock of a chain: an open-file-description lock, which the kernel drops with its holder (fcntl(2))."""

import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import Final

from icecore.errors import Busy
from icecore.storage.durable import FILE_MODE

LOCK: Final = "lock"
"""Name of the file in the chain's directory."""
F_OFD_SETLK: Final = 37
"""Not in Python 3.11's fcntl. Unlike POSIX locks, closing another fd of the file in this process does not drop it, and
two threads of one process exclude each other."""
_FLOCK: Final = struct.Struct("@hhqqi4x")
"""struct flock: type, whence, start, len, pid (which must be 0)."""


class WriteLock:
    """Held from construction to ``release``. The file's text is the holder's pid, for people."""

    def __init__(self, path: Path, what: str) -> None:
        """Raises Busy naming the holder, and OSError."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
        try:
            self._acquire(what)
        except BaseException:
            os.close(self._fd)
            raise

    def release(self) -> None:
        """Let the next writer in. May be called twice."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        try:
            # a forked child may still have the description: unlock rather than only close
            fcntl.fcntl(fd, F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0))
        finally:
            os.close(fd)

    def _acquire(self, what: str) -> None:
        try:
            fcntl.fcntl(self._fd, F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise Busy(f"{what} is being written by {self._holder()}", "wait for it, or stop that process") from None
        os.truncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def _holder(self) -> str:
        text = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip()
        return f"process {text}" if text.isdigit() else "another process"
