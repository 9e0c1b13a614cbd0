# SPDX-License-Identifier: Apache-2.0
"""The harness itself: status and output come back, the guest is another kernel, and it cannot write here."""

import os
from pathlib import Path

import pytest
from vm import initramfs, machine, packages
from vm.kernels import KERNELS, HarnessError, kernel_named

KERNEL = KERNELS["6.12"]
SECONDS = 300


def in_guest(*command: str, seconds: float = SECONDS) -> tuple[int, str]:
    output = bytearray()
    status = machine.run(KERNEL, command, output=output.extend, timeout=seconds)
    return status, output.decode()


@pytest.mark.slow
def test_status_output_and_directory_come_back() -> None:
    status, output = in_guest("sh", "-c", 'uname -r; pwd; echo "$PATH|$ICECORE_VM_GUEST|$1"; exit 7', "sh", "a 'b'\n$c")
    release, directory, *rest = output.splitlines()
    assert status == 7
    assert release.startswith("6.12.")
    assert directory == os.getcwd()
    assert "\n".join(rest) == f"{os.environ['PATH']}|1|a 'b'\n$c"


@pytest.mark.slow
def test_the_host_cannot_be_written_to(tmp_path: Path) -> None:
    place = Path.cwd() / f".vm-{os.getpid()}"
    script = f"echo x >{place} && cat {place}; mkdir /run/b; mount -t virtiofs hostroot /run/b && echo x >/run/b{place}"
    status, output = in_guest("sh", "-c", script)
    assert status != 0
    assert output.startswith("x\n")
    assert "Read-only" in output
    assert not place.exists()


@pytest.mark.slow
def test_a_guest_that_says_nothing_is_an_error() -> None:
    with pytest.raises(HarnessError, match="the guest did not report within 1 s"):
        in_guest("true", seconds=1)


def test_an_unknown_kernel_is_named() -> None:
    with pytest.raises(HarnessError, match=r"no kernel '2\.4': there are 6\.1, 6\.12, 7\.x"):
        kernel_named("2.4")


def test_a_suite_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no-such-suite"):
        packages.unpack("no-such-suite", tmp_path / "x", packages=["hello"])
    assert not list(tmp_path.iterdir())


def test_modules_load_after_those_that_they_need() -> None:
    text = "k/fuse/virtiofs.ko.xz: k/fuse/fuse.ko.xz k/virtio.ko.xz k/ring.ko.xz\nk/fuse/fuse.ko.xz:\nk/other.ko:\n"
    assert list(initramfs.load_order(text, ("fuse", "virtiofs", "absent"))) == [
        "k/fuse/fuse.ko.xz", "k/ring.ko.xz", "k/virtio.ko.xz", "k/fuse/virtiofs.ko.xz"
    ]  # fmt: skip
