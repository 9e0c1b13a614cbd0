# SPDX-License-Identifier: Apache-2.0
"""The kernels under test, and where the harness keeps what it downloaded."""

import os
from dataclasses import dataclass
from pathlib import Path


class HarnessError(Exception):
    """A kernel cannot be had, or a guest did not report. One line that names the thing."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel as Debian builds it for virtual machines."""

    name: str
    """What a person types: ``KERNEL=6.12``."""
    suite: str
    """The Debian suite whose newest cloud kernel this is."""


KERNELS = {
    kernel.name: kernel
    for kernel in (
        Kernel("6.1", "bookworm"),
        Kernel("6.12", "trixie"),
        Kernel("7.x", "trixie-backports"),
    )
}

TOOLS_SUITE = "trixie"
"""Where QEMU comes from, on every host: 10.0 boots 6.12 always, the 7.2 of bookworm only two times out of three."""
TOOLS = ("qemu-system-x86", "virtiofsd", "busybox-static", "kmod")


def kernel_named(name: str) -> Kernel:
    """The kernel of that name; HarnessError lists those there are."""
    if name not in KERNELS:
        raise HarnessError(f"no kernel {name!r}: there are {', '.join(KERNELS)}")
    return KERNELS[name]


def cache_directory() -> Path:
    """Where downloads live, outside the tree: ``$ICECORE_VM_CACHE``, or ``icecore-vm`` in the user's cache."""
    if chosen := os.environ.get("ICECORE_VM_CACHE"):
        return Path(chosen).resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").resolve() / "icecore-vm"
