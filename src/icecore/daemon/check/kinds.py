# SPDX-License-Identifier: Apache-2.0
"""What a descriptor is: one word for each kind, and for the kinds that no restore can bring back, why."""

import os
import stat

from icecore.daemon.check.fds import Fd

ANON = {
    "[eventfd]": "eventfd",
    "[eventpoll]": "epoll",
    "[timerfd]": "timerfd",
    "[signalfd]": "signalfd",
    "inotify": "inotify",
    "[fanotify]": "fanotify",
    "[pidfd]": "pidfd",
    "[perf_event]": "perf",
    "[io_uring]": "io-uring",
    "[userfaultfd]": "userfaultfd",
}
"""By what follows ``anon_inode:`` in the link."""

RESTORABLE_DEVICES = frozenset(os.makedev(1, minor) for minor in (3, 5, 7, 8, 9))
"""null, zero, full, random, urandom: they keep no state."""

TERMINAL_MAJORS = frozenset({4, 5, 188, 204, 229, *range(128, 144)})
"""Consoles and ttyS, tty/console/ptmx, ttyUSB, ttyAMA, hvc, pseudo-terminals (admin-guide/devices.txt)."""

REFUSED = {
    "bpf": "BPF object ({link})",
    "device": "device {link}",
    "fanotify": "fanotify group",
    "fifo": "named pipe {link}",
    "inotify": "inotify instance",
    "io-uring": "io_uring instance",
    "memfd": "memory file {link}",
    "perf": "perf event",
    "pidfd": "pidfd of process {process}",
    "secret-memory": "memfd_secret memory",
    "symlink": "symbolic link {link} opened with O_PATH",
    "terminal": "terminal {link}",
    "unknown-file": "{link}, of a kind that icecore does not know",
    "userfaultfd": "userfaultfd",
}
"""Kinds that are always refused (fifo and terminal: unless a standard stream), and what is said of them."""


def kind_of(fd: Fd) -> str:
    """regular, directory, device-node, pipe, socket, eventfd, epoll, timerfd, signalfd, or a key of REFUSED."""
    if fd.link.startswith("anon_inode:"):
        return anonymous_kind(fd.link.removeprefix("anon_inode:"))
    mode = fd.stat.st_mode
    if stat.S_ISSOCK(mode):
        return "socket"
    if stat.S_ISFIFO(mode):
        return "pipe" if fd.link.startswith("pipe:[") else "fifo"
    if stat.S_ISCHR(mode):
        return device_kind(fd.stat.st_rdev)
    return path_kind(fd.link, mode)


def anonymous_kind(name: str) -> str:
    if name.startswith(("bpf", "[bpf")):
        return "bpf"
    return ANON.get(name, "unknown-file")


def device_kind(rdev: int) -> str:
    if rdev in RESTORABLE_DEVICES:
        return "device-node"
    return "terminal" if os.major(rdev) in TERMINAL_MAJORS else "device"


def path_kind(link: str, mode: int) -> str:
    if stat.S_ISBLK(mode):
        return "device"
    if stat.S_ISLNK(mode):
        return "symlink"
    if link.startswith("pidfd:"):
        return "pidfd"
    if not link.startswith("/"):
        return "unknown-file"
    if link.startswith("/memfd:"):
        return "memfd"
    if link.startswith("/secretmem"):
        return "secret-memory"
    return "directory" if stat.S_ISDIR(mode) else "regular"


def why_refused(kind: str, fd: Fd) -> str:
    """The text of REFUSED for this fd."""
    return REFUSED[kind].format(link=fd.link.removesuffix(" (deleted)"), process=fd.values().get("Pid", "?"))
