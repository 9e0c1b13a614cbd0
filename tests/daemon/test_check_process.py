# SPDX-License-Identifier: Apache-2.0
"""Processes and threads that cannot be restored as a whole: a real one for each reason."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.holders import Start, holder
from support.reasons import kinds_of, only_reason, reasons_of, start_or_skip

SECCOMP_FILTER = """need(libc.prctl(38, 1, 0, 0, 0))
  f = ctypes.create_string_buffer(bytes.fromhex('060000000000ff7f'))
  need(libc.prctl(22, 2, struct.pack('=H6xQ', 1, ctypes.addressof(f)), 0, 0))"""
"""no_new_privs, and one instruction: SECCOMP_RET_ALLOW."""


PROCESS = {
    "child": ("c = os.fork() or (libc.prctl(1, 9), signal.pause())", "has a child, process"),
    "namespace": ("need(libc.unshare(0x04000000))", "another uts namespace"),
    "posix-timer": ("i = ctypes.c_int(); syscall(222, 0, 0, ctypes.byref(i))", "POSIX timer 0"),
    "root": ("os.chdir('/usr'); os.chroot('/usr')", "/usr as its root"),
    "seccomp": (
        SECCOMP_FILTER,
        "seccomp filter",
    ),
    "cwd": (
        "os.mkdir(f'/tmp/icecore-{os.getpid()}'); os.chdir(f'/tmp/icecore-{os.getpid()}'); os.rmdir(os.getcwd())",
        "working directory",
    ),
}


@pytest.mark.parametrize("kind", PROCESS)
def test_process(kind: str, start: Start) -> None:
    code, words = PROCESS[kind]
    reason = only_reason(start_or_skip(start, code).pid)
    assert (reason.kind, reason.thing) == (kind, "process")
    assert words in reason.why


THREADS = {
    "credentials": ("libc.syscall(117, 1, 1, 1)", "other user ids"),
    "unshared-thread": ("libc.unshare(0x600)", "of its own"),
    "seccomp": (
        "libc.prctl(38, 1, 0, 0, 0), libc.prctl(22, 2, program, 0, 0)",
        "seccomp filter that the main thread has not",
    ),
}


@pytest.mark.parametrize("kind", THREADS)
def test_threads(kind: str, start: Start) -> None:
    code, words = THREADS[kind]
    setup = (
        "b = ctypes.create_string_buffer(struct.pack('=HBBI', 6, 0, 0, 0x7fff0000))\n"
        "program = struct.pack('=H6xQ', 1, ctypes.addressof(b))\n"
    )
    found = [one for one in reasons_of(start(holder(f"{setup}in_thread(lambda: ({code}))\n")).pid) if one.kind == kind]
    assert found
    assert all(reason.thing.startswith("thread ") and words in reason.why for reason in found)


def test_pinned_memory(start: Start) -> None:
    code = (
        "p = ctypes.create_string_buffer(256); f = syscall(425, 4, p); a = map(1 << 16)\n"
        "  syscall(427, f, 0, struct.pack('=QQ', a, 1 << 16), 1)"
    )
    assert {"pinned", "io-uring"} <= kinds_of(start_or_skip(start, code).pid)


def test_program_deleted(start: Start, tmp_path: Path) -> None:
    program = tmp_path / "sh"
    program.write_bytes(Path("/bin/sh").read_bytes())
    program.chmod(0o755)
    victim = start([program, "-c", "echo ready $$; read line"])
    program.unlink()
    reasons = reasons_of(victim.pid)
    assert {reason.kind for reason in reasons} == {"deleted-mapping"}
    assert {reason.thing.split()[0] for reason in reasons} == {"process", "mapping"}


def test_stopped() -> None:
    with subprocess.Popen(["sleep", "1000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
            assert only_reason(process.pid).kind == "stopped"
        finally:
            process.kill()


VFORK = """
#include <stdio.h>
#include <unistd.h>
int main(void) {
    char byte;
    if (vfork() == 0) {
        dprintf(1, "ready %d\\n", getpid());
        while (read(0, &byte, 1) > 0) {}
        _exit(0);
    }
    return 0;
}
"""


def test_vfork(start: Start, tmp_path: Path) -> None:
    source, program = tmp_path / "vfork.c", tmp_path / "vfork"
    source.write_text(VFORK)
    subprocess.run(["gcc", "-w", "-o", program, source], check=True)
    victim = start([program])
    child = int(Path(f"/proc/{victim.pid}/task/{victim.pid}/children").read_text())
    assert kinds_of(victim.pid) == {"child"}
    assert "memory (vfork?)" in only_reason(child).why


def check_without(rights: str, pid: int) -> str:
    """The kinds that a checker with fewer rights finds."""
    code = (
        "import ctypes, sys\n"
        f"assert ctypes.CDLL(None).prctl({rights}, 0, 0, 0) == 0\n"
        "from icecore.daemon.check import check\n"
        "from icecore.daemon.target import Target\n"
        "print(*check(Target.open(int(sys.argv[1]))), sep='\\n')\n"
    )
    return subprocess.run([sys.executable, "-c", code, str(pid)], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(("rights", "words"), [("38, 1", "no_new_privs"), ("24, 22", "bounding capabilities 0x400000")])
def test_rights_that_a_restorer_lacks(rights: str, words: str, start: Start) -> None:
    victim = start(holder(""))
    if not int(victim.ask("libc.prctl(23, 22, 0, 0, 0)")):
        pytest.skip("has no CAP_SYS_BOOT to give up")
    assert words in check_without(rights, victim.pid)
