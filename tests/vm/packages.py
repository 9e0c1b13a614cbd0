# SPDX-License-Identifier: Apache-2.0
"""Debian packages of any suite, without touching this machine's own sources, lists or packages.

A private apt configuration (on top of the machine's, for its proxies) names one suite on the mirror that the machine
itself uses. apt checks the signatures; packages are unpacked, never installed.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from vm.kernels import HarnessError

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
KERNEL_PARTS = re.compile(r"^linux-(image|base|binary|modules)-\d\S*$", re.MULTILINE)
RELEASES = re.compile(r"^'(\S+)/dists/([^/\s]+)/InRelease'", re.MULTILINE)
CONFIGURATION = """\
Dir::Etc::sourcelist "{directory}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "{directory}/lists";
Dir::State::status "{directory}/status";
Dir::Cache "{directory}/cache";
Dir::Cache::archives "{directory}/archives";
Acquire::Languages "none";
Acquire::AllowInsecureRepositories "false";
APT::Get::AllowUnauthenticated "false";
APT::Architecture "amd64";
APT::Architectures "amd64";
APT::Sandbox::User "root";
"""


def run(command: Sequence[str | Path], cwd: Path | None = None, **environment: str) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env={**os.environ, "LC_ALL": "C", **environment}, check=False
    )
    if done.returncode:
        words = " ".join(map(str, command))
        raise HarnessError(f"{words}: {(done.stderr or done.stdout).strip() or f'status {done.returncode}'}")
    return done.stdout


def system_mirror() -> str:
    """The mirror of this machine's own Debian sources, whichever of the two formats they are written in."""
    found: list[tuple[str, str]] = RELEASES.findall(run(["apt-get", "update", "--print-uris"]))  # downloads nothing
    for uri, release in sorted(found, key=lambda one: (one[0], f"{one[1]}-updates") not in found):  # Debian's own first
        if not release.endswith(("-security", "-updates", "-backports")):
            return uri
    raise HarnessError("apt knows no Debian mirror: see /etc/apt/sources.list.d")


class Suite:
    """One suite of the archive, with its own lists in a directory of its own that the caller throws away."""

    def __init__(self, name: str, directory: Path) -> None:
        self._archives = directory / "archives"
        for part in ("lists/partial", "archives/partial", "cache"):
            (directory / part).mkdir(parents=True)
        (directory / "status").touch()  # nothing is installed: apt hands out every dependency, down to libc
        (directory / "sources.list").write_text(f"deb [signed-by={KEYRING}] {system_mirror()} {name} main\n")
        self._configuration = directory / "apt.conf"
        self._configuration.write_text(CONFIGURATION.format(directory=directory))
        self._apt("apt-get", "update", "-qq")

    def _apt(self, *command: str) -> str:
        return run(command, cwd=self._archives, APT_CONFIG=str(self._configuration))

    def unpack(self, packages: Iterable[str], target: Path) -> None:
        """Unpack packages and all that they depend on."""
        self._apt("apt-get", "install", "--download-only", "--no-install-recommends", "-y", "-qq", *packages)
        self._unpack_archives(target)

    def unpack_kernel(self, package: str, target: Path) -> None:
        """Unpack the image and the modules that a kernel meta package depends on; not what would install them."""
        relations = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
        tree = self._apt("apt-cache", "depends", "--recurse", *(f"--no-{relation}" for relation in relations), package)
        parts = sorted({match.group() for match in KERNEL_PARTS.finditer(tree)})
        if not parts:
            raise HarnessError(f"{package} depends on no kernel image")
        self._apt("apt-get", "download", "-qq", *parts)
        self._unpack_archives(target)

    def _unpack_archives(self, target: Path) -> None:
        for archive in sorted(self._archives.glob("*.deb")):
            run(["dpkg-deb", "-x", archive, target])


def unpack(suite: str, target: Path, *, kernel: str = "", packages: Sequence[str] = ()) -> None:
    """Download and unpack a kernel meta package, or packages with their dependencies, into a new directory."""
    with tempfile.TemporaryDirectory(prefix="icecore-apt-", dir=target.parent) as scratch:
        source = Suite(suite, Path(scratch))
        if kernel:
            source.unpack_kernel(kernel, target)
        else:
            source.unpack(packages, target)
