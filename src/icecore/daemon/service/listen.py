# SPDX-License-Identifier: Apache-2.0
"""One daemon per store and per socket: lock files say who is there; what a dead daemon left behind is replaced."""

import fcntl
import os
import socket
import stat
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from icecore.errors import Busy, NotPermitted, UsageError

BACKLOG = 128
SOCKET_MODE = 0o666
"""Anybody may connect: each request is checked against the caller's credentials."""


@contextmanager
def lock(path: Path, what: str) -> Generator[None]:
    """Holds the lock file ``path``, which names our pid; Busy names the holder. The kernel releases it if we die.

    The file stays: removing it would let two daemons lock two files of one name. Raises OSError.
    """
    with ExitStack() as held:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        held.callback(os.close, fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise Busy(f"another icecored (pid {holder}) uses {what}", "stop it, or give another path") from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode("ascii"), 0)
        yield


@contextmanager
def listening_socket(path: Path) -> Generator[socket.socket]:
    """A listening Unix socket at ``path``, unlinked at the end. Its directory is made if it is not there."""
    what = f"the socket {path}"
    with ExitStack() as held:
        with _explained(what):
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            held.enter_context(lock(path.with_name(f"{path.name}.lock"), what))
            listener = held.enter_context(_bound(path))
        yield listener


@contextmanager
def _bound(path: Path) -> Generator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as listener:
        _remove_stale(path)
        listener.bind(str(path))
        identity = _identity(path)
        try:
            path.chmod(SOCKET_MODE)
            listener.listen(BACKLOG)
            yield listener
        finally:
            with suppress(OSError):  # a socket that somebody else has put there is not ours to remove
                if _identity(path) == identity:
                    path.unlink()


def _remove_stale(path: Path) -> None:
    """We hold the lock: a socket file that is there has no icecored behind it. Anything else is left alone."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UsageError(f"{path} is not a socket", "give another path with --socket, or remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise Busy(f"another program listens on {path}", "stop it, or give another path with --socket")


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


@contextmanager
def _explained(what: str) -> Generator[None]:
    """What the file system refuses, as an error for people."""
    try:
        yield
    except PermissionError as error:
        raise NotPermitted(
            f"{what} cannot be used: {error.strerror}", "run icecored as root, or give another path"
        ) from error
    except OSError as error:  # too long a path, read-only file system, no such directory
        raise UsageError(f"{what} cannot be used: {error.strerror or error}", "give another path") from error
