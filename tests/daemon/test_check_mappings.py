# SPDX-License-Identifier: Apache-2.0
"""Mappings that cannot be restored: one real process for each kind."""

import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.holders import Start, holder
from support.reasons import kinds_of, only_reason, reasons_of, start_or_skip

MAPPINGS = {
    "aio": ("c = ctypes.c_ulong(0); syscall(206, 4, ctypes.byref(c))", "asynchronous I/O"),
    "hugetlb": ("map(2 << 20, flags=0x44022)", "huge pages"),
    "io-uring": (
        "p = ctypes.create_string_buffer(256); f = syscall(425, 4, p); map(4096, 3, 0x8001, f); os.close(f)",
        "io_uring ring",
    ),
    "memfd": ("f = os.memfd_create('m'); os.ftruncate(f, 4096); map(4096, 3, 1, f); os.close(f)", "/memfd:m"),
    "secret-memory": ("f = syscall(447, 0); os.ftruncate(f, 4096); map(4096, 3, 1, f); os.close(f)", "memfd_secret"),
    "sysv-shm": (
        "i = syscall(29, 0, 4096, 0o1600); need(libc.shmat(i, None, 0)); libc.shmctl(i, 0, None)",
        "System V",
    ),
}


@pytest.mark.parametrize("kind", MAPPINGS)
def test_mappings(kind: str, start: Start) -> None:
    code, words = MAPPINGS[kind]
    reason = only_reason(start_or_skip(start, code).pid)
    assert reason.kind == kind
    assert reason.thing.startswith("mapping ")
    assert words in reason.why


def test_faults_served_by_the_program(start: Start) -> None:
    code = (
        "f = syscall(323, 1); fcntl.ioctl(f, 0xc018aa3f, bytearray(struct.pack('=3Q', 0xaa, 0, 0)))\n"
        "  a = map(8192); fcntl.ioctl(f, 0xc020aa00, bytearray(struct.pack('=4Q', a, 8192, 1, 0)))"
    )
    reasons = [one for one in reasons_of(start_or_skip(start, code).pid) if one.kind == "userfaultfd"]
    assert {reason.thing.split()[0] for reason in reasons} == {"fd", "mapping"}


def test_shared_file_mapping(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "mapped"
    path.write_bytes(bytes(8192))
    code = f"f = os.open({str(path)!r}, os.O_RDWR); map(8192, 3, 1, f); os.close(f)\n"
    reason = only_reason(start(holder(code)).pid)
    assert (reason.kind, reason.why) == ("shared-file-mapping", f"shared writable mapping of {path}")


@pytest.mark.parametrize(
    "change", ["os.unlink(path)", "os.rename(path, path + '1'); open(path, 'wb').write(bytes(8192))"]
)
def test_mapped_file_removed(change: str, start: Start, tmp_path: Path) -> None:
    path = tmp_path / "mapped"
    path.write_bytes(bytes(8192))
    code = f"path = {str(path)!r}; f = os.open(path, os.O_RDONLY); map(8192, 1, 2, f); os.close(f); {change}\n"
    found = reasons_of(start(holder(code)).pid)
    if "rename" in change:
        assert found == []  # the mapping follows the file to its new name
    else:
        assert [reason.kind for reason in found] == ["deleted-mapping"]
        assert str(path) in found[0].why


def test_mapped_file_replaced(start: Start, tmp_path: Path) -> None:
    """The kernel still shows the old path of a file below a directory that was mounted over."""
    directory = tmp_path / "directory"
    directory.mkdir()
    (directory / "mapped").write_bytes(bytes(4096))
    code = f"f = os.open({str(directory / 'mapped')!r}, os.O_RDONLY); map(4096, 1, 2, f)\n"
    victim = start(holder(code))
    with mounted_over(directory):
        (directory / "mapped").write_bytes(bytes(4096))
        assert kinds_of(victim.pid) == {"deleted-mapping", "moved-file"}
    assert kinds_of(victim.pid) == set()


@contextmanager
def mounted_over(directory: Path) -> Generator[None]:
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", directory], check=False).returncode:
        pytest.skip("may not mount")
    try:
        yield
    finally:
        subprocess.run(["umount", directory], check=True)


SHARED_WITH_ORPHAN = """
m = mmap.mmap(-1, 8192)
p, q = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.close(0), os.close(1), os.close(2), os.close(q)
        os.read(p, 1)
    os._exit(0)
os.wait()
"""


def test_shared_memory_that_another_process_has(start: Start) -> None:
    victim = start(holder(SHARED_WITH_ORPHAN))
    reasons = [reason for reason in reasons_of(victim.pid) if reason.kind == "shared-memory"]
    assert len(reasons) == 1
    assert "has mapped too" in reasons[0].why
