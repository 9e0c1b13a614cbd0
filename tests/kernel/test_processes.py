# SPDX-License-Identifier: Apache-2.0
"""pidfd, kcmp, clone3, futex, tee, and a program made of two instructions."""

import errno
import os
import select
import signal

import pytest
from support.fixture_types import PAGE, Fork

from icecore.kernel.clone3 import CLONE_ARGS_SIZE, clone3_fork, clone_args
from icecore.kernel.elf import CODE, CODE_OFFSET, minimal_elf
from icecore.kernel.futex import ROBUST_LIST_HEAD_SIZE, get_robust_list
from icecore.kernel.kcmp import KCMP_FILE, KCMP_VM, kcmp
from icecore.kernel.pidfd import pidfd_getfd, pidfd_open, pidfd_send_signal
from icecore.kernel.prctl import MM_MAP_SIZE, MmMap
from icecore.kernel.procfs import read_maps
from icecore.kernel.splice import tee


def test_pidfd_tells_the_end_and_sends_signals(sleeper: Fork) -> None:
    pid = sleeper()
    fd = pidfd_open(pid)
    try:
        pidfd_send_signal(fd, signal.SIGKILL)
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(10_000)
    finally:
        os.close(fd)


def test_pidfd_getfd_duplicates() -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        signal.pause()
        os._exit(0)
    fd = pidfd_open(child)
    os.close(writer)
    try:
        taken = pidfd_getfd(fd, writer)
        os.write(taken, b"hello")
        os.close(taken)
        assert os.read(reader, 5) == b"hello"
        with pytest.raises(OSError, match="Bad file"):
            pidfd_getfd(fd, 900)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(fd)
        os.close(reader)


def test_kcmp_knows_a_duplicate_from_a_second_opening(sleeper: Fork) -> None:
    first, second = os.open("/dev/null", os.O_RDONLY), os.open("/dev/null", os.O_RDONLY)
    pid = sleeper()
    try:
        assert kcmp(os.getpid(), pid, KCMP_FILE, first, first) == 0
        assert kcmp(os.getpid(), pid, KCMP_FILE, first, second) in (1, 2)
        assert kcmp(os.getpid(), pid, KCMP_VM) in (1, 2)
        with pytest.raises(OSError, match="Bad file"):
            kcmp(os.getpid(), pid, KCMP_FILE, 900, 901)
    finally:
        os.close(first)
        os.close(second)


def test_clone3_gives_the_pid_that_was_asked_for() -> None:
    with open("/proc/sys/kernel/pid_max", encoding="ascii") as file:
        wanted = int(file.read()) - 7
    while os.path.exists(f"/proc/{wanted}"):
        wanted -= 1
    pid = clone3_fork(wanted)
    if pid == 0:
        os._exit(os.getpid() != wanted)
    assert pid == wanted
    assert os.waitpid(pid, 0) == (wanted, 0)


def test_clone3_says_when_the_pid_is_taken() -> None:
    with pytest.raises(FileExistsError, match=f"clone3 with pid {os.getpid()}"):
        clone3_fork(os.getpid())


def test_struct_sizes_are_the_kernels() -> None:
    assert len(clone_args()) == CLONE_ARGS_SIZE == 88
    fields = dict.fromkeys(
        ("start_code", "end_code", "start_data", "end_data", "start_brk", "brk", "start_stack", "arg_start", "arg_end",
         "env_start", "env_end", "auxv", "auxv_size"), 0,
    )  # fmt: skip
    assert len(MmMap(**fields).pack()) == MM_MAP_SIZE == 104


def test_robust_list_of_this_thread() -> None:
    head, length = get_robust_list(0)
    assert head
    assert length == ROBUST_LIST_HEAD_SIZE


def test_tee_leaves_the_bytes_in_the_pipe() -> None:
    source, sink = os.pipe(), os.pipe()
    try:
        os.write(source[1], b"abc")
        assert tee(source[0], sink[1], 100) == 3
        assert os.read(sink[0], 10) == os.read(source[0], 10) == b"abc"
        with pytest.raises(BlockingIOError) as caught:
            tee(source[0], sink[1], 100)
        assert caught.value.errno == errno.EAGAIN
    finally:
        for fd in (*source, *sink):
            os.close(fd)


def test_minimal_elf_is_a_program() -> None:
    address, ready = 0x10000, os.pipe()
    fd = os.memfd_create("stub", os.MFD_CLOEXEC)
    os.write(fd, minimal_elf(address))
    child = os.fork()
    if child == 0:
        os.execve(fd, ["stub"], {})
    os.close(ready[1])
    os.close(fd)
    try:
        assert os.read(ready[0], 1) == b""  # closed by the exec
        first = read_maps(child)[0]
        assert (first.start, first.end, first.prot) == (address, address + PAGE, 5)
        with open(f"/proc/{child}/mem", "rb", buffering=0) as memory:
            memory.seek(address + CODE_OFFSET)
            assert memory.read(len(CODE)) == CODE
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready[0])
