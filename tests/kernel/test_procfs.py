# SPDX-License-Identifier: Apache-2.0
"""/proc of ourselves and of children, and lines that are hard to parse."""

import mmap
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from support.fixture_types import PAGE, Fork, Memory

from icecore.kernel import procfs


def test_maps_know_a_mapping_of_ours(memory: Memory) -> None:
    mapping, start = memory(4)
    mapping[0] = 1
    (vma,) = [vma for vma in procfs.read_maps(os.getpid()) if vma.start <= start < vma.end]
    assert vma.is_anonymous
    assert not vma.shared
    assert vma.prot == mmap.PROT_READ | mmap.PROT_WRITE
    assert vma.length >= 4 * PAGE


def test_maps_of_shared_memory_and_files(tmp_path: Path) -> None:
    path = tmp_path / "with space\nand newline (deleted)"
    path.write_bytes(bytes(2 * PAGE))
    with open(path, "rb") as file, mmap.mmap(file.fileno(), PAGE, mmap.MAP_PRIVATE, mmap.PROT_READ, offset=PAGE):
        shared = mmap.mmap(-1, PAGE)
        start = np.frombuffer(shared, np.uint8).ctypes.data
        maps = procfs.read_maps(os.getpid())
        shared.close()
    (vma,) = [vma for vma in maps if vma.path == str(path)]
    assert (vma.offset, vma.inode, vma.dev) == (PAGE, path.stat().st_ino, path.stat().st_dev)
    assert vma.is_private_file
    (vma,) = [vma for vma in maps if vma.start == start]
    assert vma.is_shared_memory
    assert vma.deleted
    assert not vma.is_anonymous


def test_maps_lines() -> None:
    text = (
        b"00400000-00401000 r-xp 00001000 fe:01 1234      /a b/c\\012d\n"
        b"7ffe0000-7ffe1000 rw-s 00000000 00:01 99 /dev/zero (deleted)\n"
        b"7fff0000-7fff1000 r--p 00000000 00:00 0   [vvar_vclock]\n"
        b"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n"
        b"10000-11000 ---p 00000000 00:00 0 \n"
    )
    code, shared, vvar, vsyscall, none = procfs.parse_maps(text)
    assert (code.path, code.prot, code.major, code.minor, code.inode) == ("/a b/c\nd", 5, 0xFE, 1, 1234)
    assert shared.is_shared_memory
    assert shared.inode == 99
    assert vvar.is_of_the_kernel
    assert vsyscall.is_of_the_kernel
    assert vsyscall.start == 0xFFFFFFFFFF600000
    assert none.is_anonymous
    assert (none.prot, none.path) == (0, "")


def test_vm_flags(memory: Memory) -> None:
    mapping, start = memory(2)
    mapping.madvise(mmap.MADV_DONTDUMP)
    flags = procfs.read_vm_flags(os.getpid())
    (found,) = [names for (low, high), names in flags.items() if low <= start < high]
    assert {"rd", "wr", "dd"} <= set(found)
    assert set(flags) >= {(vma.start, vma.end) for vma in procfs.read_maps(os.getpid()) if vma.start == start}


def test_stat_of_a_name_made_to_confuse(sleeper: Fork) -> None:
    line = procfs.read_bytes(sleeper(), "stat")
    pid, _, rest = line.partition(b" ")
    tail = rest.rpartition(b")")[2]
    stat = procfs.parse_stat(pid + b" (a) R 1 (b) )" + tail)
    assert (stat.comm, stat.pid, stat.ppid) == ("a) R 1 (b) ", int(pid), os.getpid())


def test_stat_and_identity(sleeper: Fork) -> None:
    pid = sleeper()
    stat = procfs.read_stat(pid)
    assert stat.state in "SRD"
    assert stat.num_threads == 1
    assert stat.session == os.getsid(0)
    assert stat.start_code < stat.end_code
    assert stat.arg_start < stat.arg_end
    assert procfs.same_process(pid, stat.start_time)
    assert not procfs.same_process(pid, stat.start_time + 1)
    assert not procfs.same_process(2**22 + 1, stat.start_time)
    assert not procfs.is_kernel_thread(pid)
    assert procfs.is_kernel_thread(2) == (procfs.read_stat(2).comm == "kthreadd")


def test_status(sleeper: Fork) -> None:
    status = procfs.read_status(sleeper())
    umask = os.umask(0)
    os.umask(umask)
    assert status.ppid == os.getpid()
    assert status.uids == (os.getuid(), os.geteuid(), os.getresuid()[2], os.geteuid())
    assert status.groups == tuple(sorted(os.getgroups()))
    assert (status.umask, status.threads, status.tracer_pid, status.seccomp) == (umask, 1, 0, 0)
    assert status.cap_bnd
    assert status.ns_pid[-1] == status.pid
    assert not status.kthread
    assert status.vm_pin_kb == procfs.read_vm_pin_kb(status.pid) == 0


def test_status_of_a_kernel_that_prints_less() -> None:
    status = procfs.parse_status(b"Name:\ta b\nUid:\t1\t2\t3\t4\nGid:\t1\t2\t3\t4\nSigBlk:\t0000000000010000\n")
    assert (status.name, status.uids, status.sig_blk, status.seccomp_filters) == ("a b", (1, 2, 3, 4), 1 << 16, 0)
    assert status.x86_thread_features == ()


def test_threads_and_children(sleeper: Fork) -> None:
    child = sleeper()
    assert child in procfs.children(os.getpid())
    assert procfs.thread_ids(child) == [child]
    go, there = threading.Event(), threading.Event()
    tids: list[int] = []

    def run() -> None:
        tids.append(threading.get_native_id())
        there.set()
        go.wait()

    thread = threading.Thread(target=run)
    thread.start()
    there.wait()
    assert set(procfs.thread_ids(os.getpid())) >= {os.getpid(), *tids}
    assert procfs.read_stat(os.getpid(), tids[0]).pid == tids[0]
    assert procfs.read_status(os.getpid(), tids[0]).tgid == os.getpid()
    go.set()
    thread.join()


def test_descriptors() -> None:
    fd = os.open("/dev/null", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    event = os.eventfd(5)
    try:
        assert {fd, event} <= set(procfs.fd_numbers(os.getpid()))
        assert procfs.fd_link(os.getpid(), fd) == "/dev/null"
        info = procfs.read_fdinfo(os.getpid(), fd)
        assert info.flags & (os.O_ACCMODE | os.O_APPEND | os.O_CLOEXEC) == os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        assert procfs.fd_link(os.getpid(), event) == "anon_inode:[eventfd]"
        assert int(procfs.read_fdinfo(os.getpid(), event).get("eventfd-count") or "0", 16) == 5
        assert procfs.read_fdinfo(os.getpid(), event).get("nothing") is None
    finally:
        os.close(fd)
        os.close(event)
    with pytest.raises(FileNotFoundError):
        procfs.read_fdinfo(os.getpid(), 900)


def test_small_files(sleeper: Fork) -> None:
    pid = sleeper()
    assert procfs.exe(pid) == os.path.realpath(sys.executable)
    assert procfs.cwd(pid) == os.getcwd()
    assert procfs.root(pid) == "/"
    assert procfs.elf_class(pid) == 64
    assert procfs.read_cmdline(pid) == procfs.read_cmdline(os.getpid())
    assert procfs.read_auxv(pid) == procfs.read_auxv(os.getpid())
    assert procfs.read_auxv(pid)[-16:-8] == bytes(8)
    assert procfs.read_personality(pid) == procfs.read_personality(os.getpid())
    assert procfs.posix_timers(pid) == ""
    assert procfs.namespaces(pid) == procfs.namespaces(os.getpid())
    assert procfs.namespaces(pid)["pid"] == os.stat("/proc/self/ns/pid").st_ino
