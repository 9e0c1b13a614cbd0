# SPDX-License-Identifier: Apache-2.0
"""What must be the same about a process after somebody who was checkpointing it has died."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from support.memory import read_areas

KernelOwned = tuple[int, int, str]


@dataclass(frozen=True, slots=True)
class Body:
    """Descriptors, mappings and code of a process."""

    fds: dict[str, str]
    mappings: tuple[tuple[int, int, str, str], ...]
    """Neighbours of one kind joined: tracking may split a mapping and leave it so."""
    code: dict[str, str]
    """Executable mapping: digest of its bytes; of the vdso only as far as its image goes, what follows is ours."""
    state: str
    tracer: int


def examine(pid: int, vdso_length: int) -> Body:
    """All of it, from /proc."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    return Body(
        {fd: os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")},
        tuple(_join([(a.start, a.end, a.permissions, a.path) for a in read_areas(pid)])),
        _digests(pid, vdso_length),
        status["State"][0],
        int(status["TracerPid"]),
    )


def tracer(pid: int) -> int:
    """Who traces the process's first thread; 0: nobody."""
    with open(f"/proc/{pid}/status", "rb", buffering=0) as file:
        return int(file.read(4096).partition(b"TracerPid:")[2].split()[0])


def vdso_image_length(pid: int) -> int:
    """Bytes of the vdso up to the last that is not zero."""
    start, end = next((start, end) for start, end, path in _executable(pid) if path == "[vdso]")
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        return len(os.pread(memory.fileno(), end - start, start).rstrip(b"\0"))


def _executable(pid: int) -> list[KernelOwned]:
    found: list[KernelOwned] = []
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        borders, permissions, *rest = line.split(maxsplit=5)
        start, end = (int(border, 16) for border in borders.split("-"))
        if "x" in permissions and (path := rest[3] if len(rest) > 3 else "anonymous") != "[vsyscall]":
            found.append((start, end, path))
    return found


def _digests(pid: int, vdso_length: int) -> dict[str, str]:
    digests: dict[str, str] = {}
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for start, end, path in _executable(pid):
            length = vdso_length if path == "[vdso]" else end - start
            digests[f"{start:x}-{end:x} {path}"] = _digest(memory.fileno(), start, length)
    return digests


def _digest(memory: int, start: int, length: int) -> str:
    digest = hashlib.blake2b()
    for at in range(0, length, 1 << 20):
        digest.update(os.pread(memory, min(1 << 20, length - at), start + at))
    return digest.hexdigest()


def _join(areas: Sequence[tuple[int, int, str, str]]) -> list[tuple[int, int, str, str]]:
    joined: list[tuple[int, int, str, str]] = []
    for start, end, *kind in areas:
        if joined and [joined[-1][1], *joined[-1][2:]] == [start, *kind]:
            joined[-1] = (joined[-1][0], end, *joined[-1][2:])
        else:
            joined.append((start, end, kind[0], kind[1]))
    return joined
