# SPDX-License-Identifier: Apache-2.0
"""Descriptors that cannot be restored: one real process for each kind."""

import os
import pty
import socket
import subprocess
from pathlib import Path

import pytest
from support.holders import Start, holder
from support.reasons import only_reason, reasons_of, start_or_skip

DESCRIPTORS = {
    "bpf": ("a = (ctypes.c_uint32 * 32)(2, 4, 8, 1); f = syscall(321, 0, a, 128)", "BPF"),
    "device": ("f = os.open('/dev/kmsg', os.O_RDONLY)", "device /dev/kmsg"),
    "epoll": ("r, w = os.pipe(); e = select.epoll(); e.register(r); d = os.dup(r); os.close(r)", "epoll set"),
    "fanotify": ("f = syscall(300, 0, 0)", "fanotify"),
    "inotify": ("f = syscall(294, 0)", "inotify"),
    "io-uring": ("p = ctypes.create_string_buffer(256); f = syscall(425, 4, p)", "io_uring"),
    "kernel-file": ("f = open('/proc/self/maps')", "a file of the kernel (proc)"),
    "memfd": ("f = os.memfd_create('scratch')", "memory file /memfd:scratch"),
    "packet-pipe": ("r, w = os.pipe2(os.O_DIRECT)", "packet mode"),
    "perf": (
        "p = ctypes.create_string_buffer(128); p[0] = b'\\1'; p[4] = b'\\x80'; f = syscall(298, p, 0, -1, -1, 0)",
        "perf event",
    ),
    "pidfd": ("f = os.pidfd_open(1)", "pidfd of process 1"),
    "secret-memory": ("f = syscall(447, 0)", "memfd_secret"),
    "terminal": ("f = os.open('/dev/ptmx', os.O_RDWR)", "terminal /dev/"),
    "userfaultfd": ("f = syscall(323, 1)", "userfaultfd"),
    "unknown-file": ("f = os.open('/proc/self/ns/net', os.O_RDONLY)", "net:["),
}


@pytest.mark.parametrize("kind", DESCRIPTORS)
def test_descriptors(kind: str, start: Start) -> None:
    code, words = DESCRIPTORS[kind]
    reasons = [reason for reason in reasons_of(start_or_skip(start, code).pid) if reason.kind == kind]
    assert reasons
    assert all(reason.thing.startswith("fd ") and words in reason.why for reason in reasons)


def test_sockets_are_described(start: Start) -> None:
    victim = start(
        holder(
            "t = socket.create_server(('127.0.0.1', 0)); u = socket.socketpair(); d = socket.socket(type=2)\n"
            "c = socket.create_connection(t.getsockname()); s, _ = t.accept()\n"
            "v = socket.socket(socket.AF_INET6, 2); v.bind(('::1', 0))\n"
            "n = socket.socket(socket.AF_NETLINK, 3, 0); n.bind((0, 0))\n"
            "l = socket.socket(socket.AF_UNIX); l.bind('\\0icecore' + str(os.getpid())); l.listen()\n"
        )
    )
    port = victim.ask("t.getsockname()[1]")
    reasons = reasons_of(victim.pid)
    assert {reason.kind for reason in reasons} == {"socket"}
    by_fd = {reason.thing: reason.why for reason in reasons}

    def described(name: str) -> str:
        return by_fd[f"fd {victim.ask(f'{name}.fileno()')}"]

    assert described("t") == f"TCP socket listening at 127.0.0.1:{port}"
    assert described("c").endswith(f"connected to 127.0.0.1:{port}")
    assert described("v").startswith("UDP socket at [::1]:")
    assert described("n") == "netlink socket"
    assert described("l") == f"unix stream socket listening at @icecore{victim.pid}"
    assert described("d").startswith(("UDP socket", "socket"))
    assert described("u[0]") == "unix stream socket"


LOCKS = {
    "FLOCK": "fcntl.flock(f, fcntl.LOCK_EX)",
    "POSIX": "fcntl.lockf(f, fcntl.LOCK_EX)",
    "OFDLCK": "fcntl.fcntl(f, 37, struct.pack('=hhxxxxqqi4x', 1, 0, 0, 0, 0))",
    "LEASE": "fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)",
}


@pytest.mark.parametrize("kind", LOCKS)
def test_file_locks(kind: str, start: Start, tmp_path: Path) -> None:
    path = tmp_path / "locked"
    victim = start(holder(f"f = os.open({str(path)!r}, os.O_RDWR | os.O_CREAT)\n{LOCKS[kind]}\n"))
    reason = only_reason(victim.pid)
    assert reason.kind == "file-lock"
    assert reason.why == f"{kind} lock on {path}"


def test_deleted_file(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "data"
    victim = start(holder(f"f = open({str(path)!r}, 'w'); os.unlink(f.name)\n"))
    reason = only_reason(victim.pid)
    assert (reason.kind, reason.thing, reason.why) == ("deleted-file", "fd 3", f"deleted file {path}")


def test_renamed_file(start: Start, tmp_path: Path) -> None:
    """The kernel knows its new name, by which it can be opened again."""
    path = tmp_path / "data"
    victim = start(holder(f"f = open({str(path)!r}, 'w'); os.rename(f.name, f.name + '.old'); open(f.name, 'w')\n"))
    assert reasons_of(victim.pid) == []


def test_a_hidden_file(start: Start, tmp_path: Path) -> None:
    victim = start(holder(f"f = os.open({str(tmp_path)!r}, os.O_TMPFILE | os.O_RDWR)\n"))
    assert only_reason(victim.pid).kind == "deleted-file"


def test_signals_on_readiness(start: Start) -> None:
    victim = start(holder("r, w = os.pipe(); fcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC)\n"))
    assert only_reason(victim.pid).kind == "async-io"


def test_named_pipe(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reason = only_reason(start(holder(f"f = os.open({str(path)!r}, os.O_RDWR)\n")).pid)
    assert (reason.kind, reason.why) == ("fifo", f"named pipe {path}")


def test_symbolic_link(start: Start, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/etc/passwd")
    victim = start(holder(f"f = os.open({str(link)!r}, os.O_PATH | os.O_NOFOLLOW)\n"))
    assert only_reason(victim.pid).kind == "symlink"


PIPE_TO_ORPHAN = """
r, w = os.pipe()
p, q = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.close(0), os.close(1), os.close(2), os.close(q)
        os.read(p, 1)
    os._exit(0)
os.wait()
os.close(p)
"""


def test_pipe_that_leads_outside(start: Start) -> None:
    victim = start(holder(PIPE_TO_ORPHAN))
    reasons = reasons_of(victim.pid)
    assert [reason.kind for reason in reasons] == ["pipe"] * 3
    assert "is shared with process " in reasons[0].why
    assert f"process {victim.pid}" not in reasons[0].why


def test_a_pipe_on_a_standard_stream_and_beyond_it(start: Start) -> None:
    """Opened anew, it is another description: nobody could give it back."""
    victim = start(holder("f = os.open('/proc/self/fd/1', os.O_WRONLY)\n"))
    assert only_reason(victim.pid).kind == "pipe"


def test_standard_streams_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(["cat"], stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        try:
            os.write(ours, b"hello\n")
            echoed = b""
            while echoed.count(b"hello") < 2:
                echoed += os.read(ours, 100)
            assert reasons_of(process.pid) == []
        finally:
            process.kill()
            os.close(ours)


def test_standard_streams_on_a_socket() -> None:
    ours, theirs = socket.socketpair()
    end = theirs.fileno()
    with subprocess.Popen(["cat"], stdin=end, stdout=end, stderr=end) as process, ours:
        theirs.close()
        ours.send(b"x")
        assert ours.recv(1) == b"x"
        assert reasons_of(process.pid) == []
        process.kill()
