# SPDX-License-Identifier: Apache-2.0
"""What would make a restore fail is found before anything is made, and named."""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.moment import Moment, moment_of
from support.programs import c_program
from support.snapshot import Snapshot, take
from support.victim import Victim

from icecore.errors import Busy, CannotRestore, IcecoreError, NotPermitted
from icecore.kernel.clone3 import clone3_fork
from icecore.restore import restore
from icecore.storage.records import DeviceFile, Mapping, OpenFile, Process, RegularFile

LEADER = "import os, sys; os.setsid(); os.fork() or os.read(int(sys.argv[1]), 1)"
"""A session leader that ends at once and leaves a child in its session, until the pipe is closed."""


def refused(snapshot: Snapshot, kind: type[IcecoreError] = CannotRestore) -> IcecoreError:
    """The error of a restore that gets no further than the checks."""
    told: list[str] = []
    with pytest.raises(kind) as caught:
        restore(snapshot, progress=told.append)
    assert told in (["checks"], ["checks", "launch"])
    assert caught.value.remedy
    return caught.value


def changed(moment: Moment, change: Callable[[Process], Process]) -> Snapshot:
    return replace(moment.snapshot, process=change(moment.snapshot.process))


def test_taken_pid_is_named() -> None:
    with Victim.start([c_program("counter")]) as victim:
        snapshot = take(victim.pid, kill=False)
        error = refused(snapshot, Busy)
        assert f"pid {victim.pid} is taken by process {victim.pid} (counter-" in error.message
        victim.expect("ok", "check")


def test_taken_thread_id_is_named() -> None:
    """A thread id may be taken by another process, or by another process's thread."""
    with Victim.start([c_program("threads")]) as other, Victim.start([c_program("threads")]) as victim:
        snapshot = take(victim.pid)
        victim.wait()
        for tid in (other.pid, max(map(int, os.listdir(f"/proc/{other.pid}/task")))):
            stolen = replace(snapshot.process.threads[1], tid=tid)
            process = replace(snapshot.process, threads=(snapshot.process.threads[0], stolen))
            message = refused(replace(snapshot, process=process), Busy).message
            assert f"thread id {tid} of process {victim.pid} is taken by " in message
            assert f"process {other.pid} (threads-" in message


def test_zombie_holds_its_pid() -> None:
    with Victim.start([c_program("counter")]) as victim:
        snapshot = take(victim.pid, kill=False)
        victim.tell("quit")
        os.waitid(os.P_PID, victim.pid, os.WEXITED | os.WNOWAIT)
        assert f"was not waited for by its parent, process {os.getpid()}" in refused(snapshot, Busy).message


def test_a_session_holds_the_pid_of_its_dead_leader(threads: Moment) -> None:
    """The pid is free as far as /proc goes; only clone3 finds that the kernel still uses it."""
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    if clone3_fork(threads.pid) == 0:  # no atfork handler has run: nothing is safe but exec
        os.execv(sys.executable, [sys.executable, "-IS", "-c", LEADER, str(reader)])
    os.waitpid(threads.pid, 0)
    error = refused(threads.snapshot, Busy)
    os.close(writer)
    os.close(reader)
    assert f"pid {threads.pid} is taken by the session of process " in error.message


def test_missing_file_is_named(files: Moment, tmp_path: Path) -> None:
    (tmp_path / "data").unlink(missing_ok=True)
    for path in tmp_path.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    error = refused(files.snapshot)
    assert str(tmp_path) in error.message
    assert "No such file or directory" in error.message
    assert isinstance(error, CannotRestore)
    assert len(error.reasons) > 1


def test_shorter_file_is_named(files: Moment) -> None:
    file = next(
        f for f in files.snapshot.process.files if isinstance(f.description, RegularFile) and f.description.size
    )
    assert isinstance(file.description, RegularFile)
    os.truncate(file.description.path, 1)
    message = refused(files.snapshot).message
    assert f"{file.description.path} (fd {file.fds[0]}) had {file.description.size} bytes at the checkpoint" in message


def test_changed_program_is_named(tmp_path: Path) -> None:
    program = shutil.copy(c_program("counter"), tmp_path / "program")
    moment = moment_of([program])
    os.utime(program)
    message = refused(moment.snapshot).message
    assert f"{program}, which was mapped at 0x" in message
    assert message.count(str(program)) == 1
    assert "has changed since the checkpoint" in message


UNSUITABLE: list[tuple[Callable[[Process], Process], str]] = [
    (lambda p: replace(p, machine="aarch64"), "it ran on aarch64"),
    (lambda p: replace(p, vdso_digest=b"", kernel_release="5.10"), "under kernel 5.10, whose vdso differs"),
    (lambda p: replace(p, exe="/nowhere/program"), "/nowhere/program, the program: No such file"),
    (lambda p: replace(p, cwd="/nowhere"), "/nowhere, the working directory: No such file"),
    (lambda p: replace(p, threads=()), "no threads"),
]


@pytest.mark.parametrize(("change", "words"), UNSUITABLE, ids=[words for _, words in UNSUITABLE])
def test_unsuitable_checkpoint_is_named(threads: Moment, change: Callable[[Process], Process], words: str) -> None:
    assert words in refused(changed(threads, change)).message


def test_file_that_became_something_else_is_named(threads: Moment, tmp_path: Path) -> None:
    directory = RegularFile(path=str(tmp_path), flags=0, offset=0, size=0, dev=0, inode=0)
    null = DeviceFile(path="/dev/null", flags=0, rdev=os.makedev(1, 5))
    extra = (
        OpenFile(fds=(70,), cloexec=(), description=directory),
        OpenFile(fds=(71,), cloexec=(), description=null),
    )
    message = refused(changed(threads, lambda p: replace(p, files=(*p.files, *extra)))).message
    assert f"{tmp_path} (fd 70) is not a regular file any more" in message
    assert "/dev/null (fd 71) is not the same device any more" in message


def test_many_reasons_are_summed_up(threads: Moment) -> None:
    lost = [
        Mapping(start=page, end=page + 4096, prot=1, shared=False, kind="file", path=f"/nowhere/{page}")
        for page in range(0x10000, 0x1A000, 0x1000)
    ]
    error = refused(changed(threads, lambda p: replace(p, mappings=(*p.mappings, *lost))))
    assert error.message.endswith("; and 5 more")
    assert isinstance(error, CannotRestore)
    assert len(error.reasons) == 10


def test_pid_beyond_the_limit(threads: Moment) -> None:
    limit = int(Path("/proc/sys/kernel/pid_max").read_text())
    error = refused(changed(threads, lambda p: replace(p, pid=limit + 1)))
    assert f"pid {limit + 1} is beyond" in error.message


def test_without_the_capability(threads: Moment) -> None:
    """In a child that is nobody."""
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        try:
            restore(threads.snapshot)
        except NotPermitted as error:
            os._exit(7 if "CAP_CHECKPOINT_RESTORE" in error.message and error.remedy else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
