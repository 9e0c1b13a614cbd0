# SPDX-License-Identifier: Apache-2.0
"""The process as a whole: what it is part of, and which of its attributes cannot be rebuilt."""

import errno
import os
from collections.abc import Iterator
from functools import cache

from icecore.daemon.check.reason import Reason
from icecore.kernel import procfs
from icecore.kernel.kcmp import KCMP_FILES, KCMP_FS, KCMP_VM, kcmp
from icecore.kernel.procfs import Status
from icecore.kernel.seccomp import SECCOMP_MODE_DISABLED

PROCESS = "process"


def refuse_process(pid: int, status: Status) -> list[Reason]:
    """All obstacles that are not descriptors, mappings or single threads."""
    return [
        *refuse_changing(pid, status),
        *refuse_namespaces(pid),
        *refuse_sharing(pid, status.ppid),
        *refuse_rights(status),
    ]


def refuse_changing(pid: int, status: Status) -> list[Reason]:
    """Those of them that a program is likely to bring about at any moment: looked at again when it is frozen."""
    return [*refuse_children(pid), *refuse_places(pid), *refuse_state(status), *refuse_timers(pid)]


def refuse_children(pid: int) -> Iterator[Reason]:
    for child in procfs.children(pid):
        try:
            comm = procfs.read_stat(child).comm
        except OSError:
            continue
        yield Reason("child", PROCESS, f"has a child, process {child} ({comm})")


@cache
def namespaces_of(pid: int) -> dict[str, int]:
    """Of ourselves, once; by pid, so that a forked process looks again."""
    return procfs.namespaces(pid)


@cache
def status_of(pid: int) -> Status:
    """The same."""
    return procfs.read_status(pid)


def refuse_namespaces(pid: int) -> Iterator[Reason]:
    ours = namespaces_of(os.getpid())
    theirs = procfs.namespaces(pid)
    others = [name for name, number in theirs.items() if ours.get(name) != number]
    if others:
        yield Reason("namespace", PROCESS, f"is in another {', '.join(others)} namespace than icecore")


def refuse_places(pid: int) -> Iterator[Reason]:
    root = procfs.root(pid)
    if root != "/":
        yield Reason("root", PROCESS, f"has {root} as its root directory")
    cwd = procfs.cwd(pid)
    if not same_directory(f"/proc/{pid}/cwd", cwd):
        yield Reason("cwd", PROCESS, f"its working directory {cwd.removesuffix(' (deleted)')} does not exist any more")
    exe = procfs.exe(pid)
    if exe.endswith(" (deleted)"):
        yield Reason(
            "deleted-mapping", PROCESS, f"its program {exe.removesuffix(' (deleted)')} was deleted or replaced"
        )


def same_directory(link: str, path: str) -> bool:
    try:
        return os.path.samestat(os.stat(link), os.stat(path))
    except OSError:
        return False


def refuse_state(status: Status) -> Iterator[Reason]:
    if status.state == "T":
        yield Reason("stopped", PROCESS, "is stopped (SIGSTOP or Ctrl-Z)")
    if status.seccomp != SECCOMP_MODE_DISABLED:
        filters = f"{status.seccomp_filters} seccomp filter(s)" if status.seccomp_filters else "strict seccomp mode"
        yield Reason("seccomp", PROCESS, f"has {filters}")
    if status.vm_pin_kb:
        yield Reason("pinned", PROCESS, f"has {status.vm_pin_kb} KiB of memory pinned for devices")
    if "shstk" in status.x86_thread_features:
        yield Reason("shadow-stack", PROCESS, "uses a shadow stack")


SHARED_WITH_PARENT = ((KCMP_VM, "memory (vfork?)"), (KCMP_FILES, "descriptor table"), (KCMP_FS, "working directory"))


def refuse_sharing(pid: int, parent: int) -> Iterator[Reason]:
    """A child of vfork, or of clone with CLONE_VM, CLONE_FILES or CLONE_FS, is half of something."""
    for kind, what in SHARED_WITH_PARENT:
        if parent and shares(pid, parent, kind):
            yield Reason("shared-tables", PROCESS, f"shares its {what} with its parent, process {parent}")


def shares(pid: int, other: int, kind: int) -> bool:
    try:
        return kcmp(pid, other, kind) == 0
    except OSError as error:
        # The parent is gone, or is another user's: then nothing is shared that we could know of.
        if error.errno in (errno.ESRCH, errno.EPERM):
            return False
        raise


def refuse_timers(pid: int) -> Iterator[Reason]:
    """/proc/PID/timers (CONFIG_CHECKPOINT_RESTORE): a line ``ID: n`` for each."""
    try:
        text = procfs.posix_timers(pid)
    except FileNotFoundError:
        return
    ids = [line.split()[1] for line in text.splitlines() if line.startswith("ID:")]
    if ids:
        yield Reason("posix-timer", PROCESS, f"has POSIX timer {', '.join(ids)} (timer_create)")


def refuse_rights(status: Status) -> Iterator[Reason]:
    """A restorer can give up rights, but cannot give what it has not: it is taken to have ours."""
    ours = status_of(os.getpid())
    if ours.uids[1] != 0 and (ours.uids != status.uids or ours.gids != status.gids or ours.groups != status.groups):
        yield Reason("capabilities", PROCESS, f"has the identity of user {status.uids[0]}, which icecore cannot assume")
    for name, theirs, own in (
        ("capabilities", status.cap_prm | status.cap_inh, ours.cap_prm),
        ("bounding capabilities", status.cap_bnd, ours.cap_bnd),
    ):
        if lacking := theirs & ~own:
            yield Reason("capabilities", PROCESS, f"has {name} {lacking:#x} that icecore lacks")
    if ours.no_new_privs and not status.no_new_privs:
        yield Reason("capabilities", PROCESS, "may gain privileges by exec, icecore may not (no_new_privs)")
