# SPDX-License-Identifier: Apache-2.0
"""Files that appear whole or not at all, and the translation of what the file system says into StoreUnusable."""

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from icecore.errors import StoreUnusable

FILE_MODE: Final = 0o600
DIR_MODE: Final = 0o700
TEMP_PREFIX: Final = ".tmp-"

_REMEDIES: Final = {
    errno.ENOSPC: "free some space on that file system, or choose another store with --store",
    errno.EDQUOT: "raise the quota, or choose another store with --store",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f), or choose another store with --store",
    errno.EROFS: "remount it for writing, or choose another store with --store",
    errno.EACCES: "run as the owner of the store, or choose another one with --store",
    errno.EPERM: "run as the owner of the store, or choose another one with --store",
}
# ENOTSUP: no O_TMPFILE here; EISDIR, ENOENT: kernels and file systems that do not know the flag
_NO_TMPFILE: Final = frozenset({errno.ENOTSUP, errno.EISDIR, errno.ENOENT, errno.EINVAL})


@contextmanager
def store_errors(path: Path) -> Generator[None, None, None]:
    """Whatever the file system refuses inside becomes StoreUnusable naming ``path``."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreUnusable(f"{path}: {reason}", _REMEDIES.get(error.errno or 0, "")) from error


def write_all(fd: int, data: bytes | memoryview) -> None:
    """write(2) until everything is written."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def sync_directory(path: Path) -> None:
    """Make names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(path: Path) -> None:
    """One new directory for its owner only, durable; nothing happens if it is there."""
    try:
        path.mkdir(mode=DIR_MODE)
    except FileExistsError:
        return
    sync_directory(path.parent)


def replace_file(path: Path, *parts: bytes | memoryview, durable: bool = True) -> None:
    """Replace a small file atomically. A fixed temporary name: what a crash leaves is overwritten the next time."""
    temporary = path.with_name(f".{path.name}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    try:
        for part in parts:
            write_all(fd, part)
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, path)
    if durable:
        sync_directory(path.parent)


class UnnamedFile:
    """A file without a name until ``link``: a process that dies leaves nothing behind.

    Where O_TMPFILE is missing it has a ``.tmp-`` name instead; ``remove_leftovers`` takes care of those.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._temporary: Path | None = None
        self.size = 0
        self.fd = self._open()

    def write(self, data: bytes) -> None:
        """Append."""
        write_all(self.fd, data)
        self.size += len(data)

    def link(self, name: str) -> None:
        """Make the content durable, then the name. Raises FileExistsError rather than replacing anything."""
        os.fsync(self.fd)
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            source = self._temporary or f"/proc/self/fd/{self.fd}"
            # with a directory fd Python calls linkat(AT_SYMLINK_FOLLOW); without one, link(2), which does not follow
            os.link(source, name, dst_dir_fd=directory)
            self._remove_temporary()
            os.fsync(directory)
        finally:
            os.close(directory)

    def close(self) -> None:
        """Forget the file unless it was linked."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self._remove_temporary()

    def _open(self) -> int:
        try:
            return os.open(self._directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            if error.errno not in _NO_TMPFILE or not self._directory.is_dir():
                raise
        self._temporary = self._directory / f"{TEMP_PREFIX}{os.getpid()}-{os.urandom(8).hex()}"
        return os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)

    def _remove_temporary(self) -> None:
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
            self._temporary = None


def remove_leftovers(directory: Path) -> None:
    """Temporary names of dead writers; call with the write lock held."""
    for entry in os.scandir(directory):
        if entry.name.startswith(TEMP_PREFIX):
            os.unlink(entry.path)
