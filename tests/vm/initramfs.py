# SPDX-License-Identifier: Apache-2.0
"""The guest's first file system: busybox, the few modules that reach the host's files, and ``guest-init``.

Written as a cpio archive in the format "newc" (linux/Documentation/driver-api/early-userspace/buffer-format.rst).
"""

import lzma
import stat
from collections.abc import Iterator
from pathlib import Path

from vm.kernels import HarnessError

WANTED = ("virtio_pci", "virtio_console", "virtio-rng", "virtiofs", "overlay")
"""Modules to load; one that is built in has no file, and needs none."""

GUEST_INIT = Path(__file__).with_name("guest-init")
DIRECTORIES = ("bin", "dev", "lower", "modules", "proc", "root", "rw", "sys")
CONSOLE = (5, 1)


def write(target: Path, modules: Path, busybox: Path) -> None:
    """Write the archive for the kernel whose modules those are."""
    order = list(load_order((modules / "modules.dep").read_text(), WANTED))
    names = [Path(path).name.removesuffix(".xz") for path in order]
    with target.open("wb") as file:
        for name in DIRECTORIES:
            file.write(entry(name, stat.S_IFDIR | 0o755))
        file.write(entry("dev/console", stat.S_IFCHR | 0o600, device=CONSOLE))
        file.write(entry("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes()))
        file.write(entry("init", stat.S_IFREG | 0o755, GUEST_INIT.read_bytes()))
        for path, name in zip(order, names, strict=True):
            file.write(entry(f"modules/{name}", stat.S_IFREG | 0o644, _module(modules / path)))
        file.write(entry("modules/order", stat.S_IFREG | 0o644, "".join(f"{name}\n" for name in names).encode()))
        file.write(entry("TRAILER!!!", 0))


def load_order(modules_dep: str, wanted: tuple[str, ...]) -> Iterator[str]:
    """The files of the wanted modules, each after those that it needs; modules.dep lists the first needed last."""
    needs = {path: rest.split() for path, _, rest in (line.partition(":") for line in modules_dep.splitlines())}
    by_name = {Path(path).name.partition(".")[0]: path for path in needs}
    done: set[str] = set()
    for name in wanted:
        if name in by_name:
            path = by_name[name]
            for part in (*reversed(needs[path]), path):
                if part not in done:
                    done.add(part)
                    yield part


def entry(name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    """One file: a header of 13 hexadecimal numbers, the name and the content, each padded to 4 bytes."""
    raw = name.encode() + b"\0"
    numbers = (0, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(raw), 0)
    head = b"070701" + b"".join(b"%08X" % number for number in numbers) + raw
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def _module(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix != ".ko":
        raise HarnessError(f"{path}: only plain modules and those packed with xz are known here")
    return data
