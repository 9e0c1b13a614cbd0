# SPDX-License-Identifier: Apache-2.0
"""/proc/PID/map_files: the objects behind mappings, also those that have no path."""

import errno
import os
from collections.abc import Iterator


def data_extents(pid: int, borders: tuple[int, int], offset: int, end: int) -> list[tuple[int, int]]:
    """The parts of [offset, end) of the object mapped at ``borders`` (exactly) that are not holes; bytes, ascending.

    Raises EPERM without CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN, ENOENT if there is no such mapping any more.
    """
    fd = os.open(f"/proc/{pid}/map_files/{borders[0]:x}-{borders[1]:x}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return list(_extents(fd, offset, end))
    finally:
        os.close(fd)


def _extents(fd: int, offset: int, end: int) -> Iterator[tuple[int, int]]:
    while offset < end:
        try:
            data = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        hole = os.lseek(fd, data, os.SEEK_HOLE)
        if data < end:
            yield data, min(hole, end)
        offset = hole
