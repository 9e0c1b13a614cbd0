# SPDX-License-Identifier: Apache-2.0
"""Taking hold of a process: every one that can never be a target is refused before it is touched."""

import os
import signal
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.holders import Start, holder

from icecore.daemon.target import Target
from icecore.errors import Busy, CannotRestore, IcecoreError, NoSuchProcess, NotPermitted, TargetGone, UsageError
from icecore.kernel import ptrace

NOBODY = 65534
KTHREADD = 2


def refused(pid: int, kind: type[IcecoreError], *words: str) -> None:
    with pytest.raises(kind) as caught:
        Target.open(pid)
    assert caught.value.remedy
    assert "\n" not in caught.value.message
    for word in words:
        assert word in f"{caught.value.message} {caught.value.remedy}"


def test_a_plain_process(start: Start) -> None:
    victim = start(holder(""))
    with Target.open(victim.pid) as target:
        assert target.alive()
        target.verify()
        assert str(victim.pid) in target.label
        victim.kill()
        assert not target.alive()
        with pytest.raises(TargetGone):
            target.verify()
    target.close()
    assert target.pidfd == -1


def test_no_descriptor_is_left_behind(start: Start) -> None:
    victim = start(holder(""))
    before = os.listdir("/proc/self/fd")
    with Target.open(victim.pid):
        pass
    refused(KTHREADD, CannotRestore)
    assert os.listdir("/proc/self/fd") == before


def test_unknown_pid(start: Start) -> None:
    victim = start(holder(""))
    victim.kill()
    refused(victim.pid, NoSuchProcess, str(victim.pid))


@pytest.mark.parametrize("pid", [0, -1])
def test_no_pid_at_all(pid: int) -> None:
    refused(pid, UsageError)


def test_ourselves() -> None:
    refused(os.getpid(), UsageError, "icecore itself")


def test_kernel_thread() -> None:
    refused(KTHREADD, CannotRestore, "kernel thread", "kthreadd")


def test_thread_id(start: Start) -> None:
    victim = start(holder("in_thread(lambda: None)"))
    thread = next(tid for tid in map(int, os.listdir(f"/proc/{victim.pid}/task")) if tid != victim.pid)
    refused(thread, NoSuchProcess, f"thread of process {victim.pid}", f"use pid {victim.pid}")


def test_zombie() -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        refused(process.pid, NoSuchProcess, "zombie")


def test_main_thread_ended() -> None:
    code = "in_thread(lambda: None)\nprint('ready', flush=True)\nlibc.syscall(60, 0)\n"
    with subprocess.Popen(holder(code), stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        try:
            while "Z" not in Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2]:
                os.sched_yield()
            refused(process.pid, CannotRestore, "main thread")
        finally:
            process.kill()


def test_traced_by_another(start: Start) -> None:
    victim = start(holder(""))
    ready, say = os.pipe()
    tracer = os.fork()
    if tracer == 0:
        ptrace.seize(victim.pid)
        os.write(say, b"x")
        signal.pause()
    try:
        os.read(ready, 1)
        refused(victim.pid, Busy, f"traced by process {tracer}", "detach")
    finally:
        os.kill(tracer, signal.SIGKILL)
        os.waitpid(tracer, 0)
        os.close(ready)
        os.close(say)
    assert victim.ask("1 + 1") == "2"


def as_nobody(action: Callable[[], object]) -> str:
    """What ``action`` raises in a child of this process that is user nobody."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        try:
            action()
            os.write(theirs, b"nothing")
        except IcecoreError as error:
            os.write(theirs, f"{error.name}: {error.message}; {error.remedy}".encode())
        finally:
            os._exit(0)
    os.close(theirs)
    with open(ours, encoding="utf-8") as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    return text


def test_another_users_process(start: Start) -> None:
    victim = start(holder(""))
    text = as_nobody(lambda: Target.open(victim.pid))
    assert text.startswith("NotPermitted: ")
    assert f"process {victim.pid}" in text
    assert "user 0" in text
    assert issubclass(NotPermitted, IcecoreError)


def test_a_users_own_process(start: Start) -> None:
    victim = start(["/bin/sh", "-c", "echo ready $$; read line"], user=NOBODY)
    assert as_nobody(lambda: Target.open(victim.pid)) == "nothing"


PAUSE_FOREVER = bytes.fromhex("b81d000000cd80ebf7")
"""i386: mov eax, 29 (pause); int 0x80; jmp back."""


def elf32() -> bytes:
    """The smallest 32-bit program that stays alive."""
    base, size = 0x0804_8000, 52 + 32 + len(PAUSE_FOREVER)
    head = (
        b"\x7fELF\x01\x01\x01"
        + bytes(9)
        + struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, base + 84, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    )
    return head + struct.pack("<8I", 1, 0, base, base, size, size, 5, 4096) + PAUSE_FOREVER


def test_32_bit_program(tmp_path: Path) -> None:
    program = tmp_path / "elf32"
    program.write_bytes(elf32())
    program.chmod(0o755)
    try:
        process = subprocess.Popen([program])
    except OSError:
        pytest.skip("this kernel does not execute 32-bit programs")
    with process:
        try:
            refused(process.pid, CannotRestore, "32-bit")
        finally:
            process.kill()
