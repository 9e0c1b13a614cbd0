# SPDX-License-Identifier: Apache-2.0
"""What would make a restore fail, found before anything is made: all of it at once."""

import os
import platform
import stat
from collections.abc import Iterator

from icecore.errors import Busy, CannotRestore, NotPermitted
from icecore.kernel.procfs import read_status
from icecore.restore.holders import is_free, who_holds
from icecore.restore.vdso import own_digest
from icecore.storage.records import DeviceFile, Mapping, Process, RegularFile

CAP_SYS_ADMIN, CAP_CHECKPOINT_RESTORE = 21, 40
_SHOWN = 5


def check(process: Process) -> None:
    """Raises Busy, NotPermitted or CannotRestore (with every reason), each naming the thing and the remedy."""
    _check_ids(process)
    _check_permission(process.pid)
    reasons = (*_whole(process), *_machine(process), *_program(process), *_mapped(process), *_open(process))
    if reasons:
        shown = "; ".join(reasons[:_SHOWN]) + ("" if len(reasons) <= _SHOWN else f"; and {len(reasons) - _SHOWN} more")
        raise CannotRestore(
            f"process {process.pid} ({process.comm}) cannot be restored: {shown}",
            "put back what is missing or changed, or restore another checkpoint",
            reasons,
        )


def _check_ids(process: Process) -> None:
    if not is_free(process.pid):
        raise Busy(
            f"pid {process.pid} is taken by {who_holds(process.pid)}",
            "end that process first, or restore in another pid namespace",
        )
    for thread in process.threads:
        if not is_free(thread.tid):
            raise Busy(
                f"thread id {thread.tid} of process {process.pid} is taken by {who_holds(thread.tid)}",
                "end that process first, or restore in another pid namespace",
            )


def _check_permission(pid: int) -> None:
    if not read_status(os.getpid()).cap_eff & (1 << CAP_SYS_ADMIN | 1 << CAP_CHECKPOINT_RESTORE):
        raise NotPermitted(
            f"restoring process {pid} under its pid needs CAP_CHECKPOINT_RESTORE",
            "run as root, or give icecore that capability",
        )


def _whole(process: Process) -> Iterator[str]:
    if not process.threads:
        yield "the checkpoint holds no threads"


def _machine(process: Process) -> Iterator[str]:
    if process.machine != platform.machine():
        yield f"it ran on {process.machine}, this machine is {platform.machine()}"
    elif process.vdso_digest != own_digest():
        ours = os.uname().release
        yield f"it ran under kernel {process.kernel_release}, whose vdso differs from that of this one ({ours})"


def _program(process: Process) -> Iterator[str]:
    yield from _missing(process.exe, "the program")
    yield from _missing(process.cwd, "the working directory")


def _mapped(process: Process) -> Iterator[str]:
    seen: set[str] = set()
    for mapping in process.mappings:
        if mapping.kind == "file" and mapping.path not in seen:
            seen.add(mapping.path)
            yield from _changed(mapping)


def _changed(mapping: Mapping) -> Iterator[str]:
    found = _stat(mapping.path)
    if isinstance(found, str):
        yield f"{mapping.path}, which was mapped at {mapping.start:#x}: {found}"
    elif (found.st_size, found.st_mtime_ns) != (mapping.file_size, mapping.file_mtime_ns):
        yield f"{mapping.path}, which was mapped at {mapping.start:#x}, has changed since the checkpoint"


def _open(process: Process) -> Iterator[str]:
    for file in process.files:
        description = file.description
        if isinstance(description, RegularFile):
            yield from _regular(file.fds[0], description)
        elif isinstance(description, DeviceFile):
            yield from _device(file.fds[0], description)


def _regular(fd: int, record: RegularFile) -> Iterator[str]:
    found = _stat(record.path)
    if isinstance(found, str):
        yield f"{record.path} (fd {fd}): {found}"
    elif record.directory != stat.S_ISDIR(found.st_mode) or not (record.directory or stat.S_ISREG(found.st_mode)):
        yield f"{record.path} (fd {fd}) is not a {'directory' if record.directory else 'regular file'} any more"
    elif not record.directory and found.st_size < record.size:
        yield f"{record.path} (fd {fd}) had {record.size} bytes at the checkpoint and has {found.st_size} now"


def _device(fd: int, record: DeviceFile) -> Iterator[str]:
    found = _stat(record.path)
    if isinstance(found, str):
        yield f"{record.path} (fd {fd}): {found}"
    elif not stat.S_ISCHR(found.st_mode) or found.st_rdev != record.rdev:
        yield f"{record.path} (fd {fd}) is not the same device any more"


def _missing(path: str, what: str) -> Iterator[str]:
    found = _stat(path)
    if isinstance(found, str):
        yield f"{path}, {what}: {found}"


def _stat(path: str) -> os.stat_result | str:
    try:
        return os.stat(path)
    except OSError as error:
        return os.strerror(error.errno or 0)
