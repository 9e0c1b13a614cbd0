# SPDX-License-Identifier: Apache-2.0
"""What is captured of descriptors is what the process says of them, and it goes on as if nothing had been."""

import os
import subprocess
from pathlib import Path

import pytest
from support.capturing import captured, file_of, wait_for_command
from support.holders import Start, holder
from support.victim import Victim

from icecore.daemon.capture import capture_process
from icecore.inject import freeze
from icecore.kernel.procfs import read_maps
from icecore.storage.records import (
    DeviceFile,
    Epoll,
    EpollTarget,
    EventFd,
    Inherited,
    OpenFile,
    PipeEnd,
    Process,
    RegularFile,
    SignalFd,
    TimerFd,
)

FILES = """
path = sys.argv[1]
plain = os.open(path, os.O_RDWR | os.O_CREAT); os.write(plain, b"0123456789"); os.lseek(plain, 4, 0)
twin = os.dup(plain); os.set_inheritable(twin, True)
alike = os.open(path, os.O_RDWR); os.lseek(alike, 4, 0)
append = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
directory = os.open("/etc", os.O_RDONLY)
null = os.open("/dev/null", os.O_RDWR)
r, w = os.pipe2(os.O_NONBLOCK); fcntl.fcntl(w, 1031, 8192); os.write(w, b"unread" * 1000)
lonely, closed = os.pipe(); os.write(closed, b"last words"); os.close(closed)
gone, deaf = os.pipe(); os.close(gone)
event = syscall(290, 3, 0o4000); semaphore = syscall(290, 7, 1)
timer = syscall(283, 1, 0o2000000); syscall(286, timer, 0, struct.pack("=4q", 5, 6, 1000, 0), 0)
idle = syscall(283, 0, 0)
mask = ctypes.c_uint64(1 << 9 | 1 << 63); sig = syscall(289, -1, ctypes.byref(mask), 8, 0o2000000)
poll = select.epoll(); poll.register(r, select.EPOLLIN | select.EPOLLET); poll.register(event, select.EPOLLOUT)
saved = os.dup(1)
"""


@pytest.fixture
def full(start: Start, tmp_path: Path) -> Victim:
    return start(holder(FILES, [str(tmp_path / "data")]))


def test_files(full: Victim, tmp_path: Path) -> None:
    process = captured(full)

    def number(name: str) -> int:
        return int(full.ask(name))

    def described(name: str) -> object:
        return file_of(process, number(name)).description

    path, status = str(tmp_path / "data"), (tmp_path / "data").stat()
    plain = file_of(process, number("plain"))
    assert plain.fds == (number("plain"), number("twin"))
    assert plain.cloexec == (number("plain"),)
    large = 0o100000
    assert plain.description == RegularFile(
        path=path, flags=os.O_RDWR | large, offset=4, size=10, dev=status.st_dev, inode=status.st_ino
    )
    assert file_of(process, number("alike")).fds == (number("alike"),)
    append = described("append")
    assert isinstance(append, RegularFile)
    assert append.flags == os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | large
    directory = described("directory")
    assert isinstance(directory, RegularFile)
    assert (directory.path, directory.directory) == ("/etc", True)
    assert described("null") == DeviceFile(path="/dev/null", flags=os.O_RDWR | large, rdev=os.makedev(1, 3))
    assert file_of(process, number("null")).cloexec == (number("null"),)


def test_pipes(full: Victim) -> None:
    process = captured(full)
    pipes = {pipe.inode: pipe for pipe in process.pipes}

    def ends(name: str) -> PipeEnd:
        found = file_of(process, int(full.ask(name))).description
        assert isinstance(found, PipeEnd)
        return found

    assert ends("r").inode == ends("w").inode
    assert (ends("r").flags, ends("w").flags) == (os.O_NONBLOCK, os.O_WRONLY | os.O_NONBLOCK)
    assert (pipes[ends("r").inode].capacity, pipes[ends("r").inode].data) == (8192, b"unread" * 1000)
    assert pipes[ends("lonely").inode].data == b"last words"
    assert pipes[ends("deaf").inode].data == b""
    assert len(pipes) == 3
    assert (
        full.ask("os.read(r, 100000) == b'unread' * 1000, os.read(lonely, 100), os.read(lonely, 100)")
        == "(True, b'last words', b'')"
    )


def test_event_objects(full: Victim) -> None:
    process = captured(full)

    def described(name: str) -> object:
        return file_of(process, int(full.ask(name))).description

    assert described("event") == EventFd(count=3, flags=os.O_RDWR | os.O_NONBLOCK, semaphore=False)
    shown = "eventfd-semaphore" in Path(f"/proc/{full.pid}/fdinfo/{full.ask('semaphore')}").read_text()  # Linux 6.5
    assert described("semaphore") == EventFd(count=7, flags=os.O_RDWR, semaphore=shown)
    timer = described("timer")
    assert isinstance(timer, TimerFd)
    assert (timer.clock, timer.interval_ns, timer.settime_flags, timer.ticks) == (1, 5_000_000_006, 0, 0)
    assert 900 * 10**9 < timer.value_ns <= 1000 * 10**9
    idle = described("idle")
    assert isinstance(idle, TimerFd)
    assert (idle.clock, idle.value_ns) == (0, 0)
    assert described("sig") == SignalFd(flags=os.O_RDWR, mask=1 << 9 | 1 << 63)
    poll = described("poll.fileno()")
    assert isinstance(poll, Epoll)
    private = 0x18  # EPOLLERR and EPOLLHUP, which the kernel adds
    r, event = int(full.ask("r")), int(full.ask("event"))
    data = {target.fd: target for target in poll.targets}
    assert data.keys() == {r, event}
    assert data[r] == EpollTarget(fd=r, events=0x8000_0001 | private, data=data[r].data)
    assert data[r].data & 0xFFFF_FFFF == r
    assert data[event].events == 4 | private


def test_standard_streams(full: Victim) -> None:
    process = captured(full)
    streams = [file_of(process, fd) for fd in range(3)]
    assert [one.description.stream for one in streams if isinstance(one.description, Inherited)] == [0, 1, 2]
    assert streams[1].fds == (1, int(full.ask("saved")))
    assert all("pipe:[" in one.description.description for one in streams if isinstance(one.description, Inherited))


def test_a_terminal_that_is_three_streams() -> None:
    import pty

    ours, theirs = pty.openpty()
    with subprocess.Popen(["cat"], stdin=theirs, stdout=theirs, stderr=theirs) as child:
        os.close(theirs)
        os.write(ours, b"x\n")
        echoed = b""
        while echoed.count(b"x") < 2:
            echoed += os.read(ours, 100)
        with freeze(child.pid) as frozen:
            process = capture_process(frozen, read_maps(child.pid), {})
        child.kill()
    os.close(ours)
    assert [one.fds for one in process.files] == [(0,), (1,), (2,)]
    assert all(
        one.description.description.startswith("terminal /dev/pts/")
        for one in process.files
        if isinstance(one.description, Inherited)
    )


def test_no_descriptor_is_left_behind(full: Victim) -> None:
    before = os.listdir("/proc/self/fd")
    theirs = os.listdir(f"/proc/{full.pid}/fd")
    captured(full)
    assert os.listdir("/proc/self/fd") == before
    assert os.listdir(f"/proc/{full.pid}/fd") == theirs


def without_timers(process: Process) -> list[OpenFile]:
    return [one for one in process.files if not isinstance(one.description, TimerFd)]


def test_again_and_again(full: Victim) -> None:
    """Nothing in the victim changes by being captured, and it can be any number of times."""
    wait_for_command(full)
    first = captured(full)
    for _ in range(20):
        again = captured(full)
        assert without_timers(again) == without_timers(first)
        assert again.mappings == first.mappings
        assert again.threads[0].registers == first.threads[0].registers
    assert full.ask("1 + 1") == "2"
