# SPDX-License-Identifier: Apache-2.0
"""What is downloaded once: QEMU with everything it needs, and for each kernel its image, modules and initramfs."""

import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vm import initramfs, packages
from vm.kernels import TOOLS, TOOLS_SUITE, HarnessError, Kernel, cache_directory

RECIPE = "1"
"""Part of each directory's name: raised when what is in one changes, so that old ones are made again."""


@dataclass(frozen=True, slots=True)
class Tools:
    """Programs of another Debian, run with their own libraries: this machine needs none of them installed."""

    root: Path

    @property
    def share(self) -> Path:
        """/usr/share of that Debian."""
        return self.root / "usr/share"

    @property
    def busybox(self) -> Path:
        """A static busybox."""
        return self.root / "usr/bin/busybox"

    def command(self, program: str, argv0: str = "") -> list[str]:
        """The words that start a program below ``usr/``."""
        libraries = self.root / "usr/lib/x86_64-linux-gnu"
        loader = str(self.root / "usr/lib64/ld-linux-x86-64.so.2")
        name = ["--argv0", argv0] if argv0 else []
        return [loader, "--library-path", str(libraries), *name, str(self.root / "usr" / program)]


@dataclass(frozen=True, slots=True)
class Bootable:
    """A kernel that is there."""

    image: Path
    initramfs: Path
    modules: Path
    """The directory .../modules/RELEASE."""

    @property
    def release(self) -> str:
        """What ``uname -r`` says in the guest."""
        return self.modules.name


def tools() -> Tools:
    """QEMU, virtiofsd, busybox and kmod, downloaded if they are not there."""
    return Tools(_once(f"tools-{RECIPE}", lambda target: packages.unpack(TOOLS_SUITE, target, packages=TOOLS)))


def bootable(kernel: Kernel) -> Bootable:
    """The kernel's files, downloaded if they are not there."""
    programs = tools()

    def make(target: Path) -> None:
        packages.unpack(kernel.suite, target, kernel="linux-image-cloud-amd64")
        modules = _only(target, "lib/modules/*/modules.order", "usr/lib/modules/*/modules.order").parent
        where = ["--basedir", str(modules.parent.parent.parent), "--moduledir", "/lib/modules"]
        packages.run([*programs.command("bin/kmod", "depmod"), *where, modules.name])
        initramfs.write(target / "initramfs", modules, programs.busybox)

    root = _once(f"linux-{kernel.name}-{RECIPE}", make)
    modules = _only(root, "lib/modules/*/modules.dep", "usr/lib/modules/*/modules.dep").parent
    image = _only(root, "boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz*", "lib/modules/*/vmlinuz*")
    return Bootable(image, root / "initramfs", modules)


def _only(root: Path, *patterns: str) -> Path:
    found = [path for pattern in patterns for path in root.glob(pattern)]
    if not found:
        raise HarnessError(f"{root} has no {' or '.join(patterns)}")
    return found[0]


def _once(name: str, make: Callable[[Path], None]) -> Path:
    """A directory of the cache, complete or not there: it is made beside its place and renamed."""
    place = cache_directory() / name
    place.parent.mkdir(parents=True, exist_ok=True)
    with _lock(place.parent / f"{name}.lock"):
        if place.exists():
            return place
        print(f"vm: downloading {name} into {place.parent}", file=sys.stderr, flush=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=place.parent))
        try:
            make(unfinished)
            unfinished.chmod(0o755)
            unfinished.rename(place)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    return place


@contextmanager
def _lock(path: Path) -> Generator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
