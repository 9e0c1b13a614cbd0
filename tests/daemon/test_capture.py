# SPDX-License-Identifier: Apache-2.0
"""What is captured of a real process is what it says of itself, and it goes on as if nothing had been."""

import os
import resource
import signal
import struct
from pathlib import Path

import pytest
from support.capturing import captured, wait_for_command
from support.holders import Start, holder

from icecore.errors import CannotRestore
from icecore.inject import freeze
from icecore.kernel import ptrace
from icecore.kernel.arch.x86_64 import Registers
from icecore.kernel.procfs import read_maps
from icecore.storage.records import (
    SharedObject,
)

SA_RESTORER = 0x0400_0000


SS_DISABLE = 2


def test_the_process_as_a_whole(start: Start, tmp_path: Path) -> None:
    code = (
        "import resource; os.umask(0o027); resource.setrlimit(resource.RLIMIT_CORE, (4096, 8192)); os.setsid()\n"
        "libc.prctl(15, b'new name'); libc.prctl(36, 1); libc.prctl(4, 0); libc.prctl(1, 10)\n"
        "libc.personality(0x0040000)\n"
    )
    victim = start(holder(code), cwd=tmp_path)
    process = captured(victim)
    assert process.pid == process.session == process.process_group == victim.pid
    assert (process.comm, process.threads[0].name) == ("new name", "new name")
    assert process.exe == str(Path(f"/proc/{victim.pid}/exe").readlink())
    assert process.cwd == str(tmp_path)
    assert (process.umask, process.dumpable, process.child_subreaper) == (0o027, 0, True)
    assert process.personality == 0x0040000
    assert process.threads[0].parent_death_signal == 10
    assert process.credentials.uids == (0, 0, 0, 0)
    limit = next(one for one in process.limits if one.resource == resource.RLIMIT_CORE)
    assert (limit.soft, limit.hard) == (4096, 8192)
    assert process.mm.auxv == Path(f"/proc/{victim.pid}/auxv").read_bytes()
    assert process.mm.start_brk <= process.mm.brk
    assert process.mm.brk == int(victim.ask("syscall(12, 0)"))
    assert len(process.vdso_digest) == 32


def test_another_users_credentials(start: Start) -> None:
    victim = start(["/bin/sh", "-c", "echo ready $$; while read line; do echo $line; done"], user=65534)
    process = captured(victim)
    assert process.credentials.uids == process.credentials.gids == (65534,) * 4
    assert process.credentials.cap_permitted == 0
    assert victim.ask("still here") == "still here"


def test_signals_and_timers(start: Start) -> None:
    code = (
        "signal.signal(signal.SIGUSR1, print); signal.signal(signal.SIGUSR2, signal.SIG_IGN)\n"
        "signal.signal(40, print); signal.siginterrupt(40, False)\n"
        "libc.syscall(13, 17, struct.pack('=4Q', 0, 2, 0, 0), 0, 8)\n"
        "signal.setitimer(signal.ITIMER_REAL, 1000, 7); signal.setitimer(signal.ITIMER_PROF, 500)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {10, 34, 64})\n"
        "os.kill(os.getpid(), 10); libc.sigqueue(os.getpid(), 34, ctypes.c_void_p(0x1234))\n"
        "signal.pthread_kill(threading.get_ident(), 64)\n"
    )
    process = captured(start(holder(code)))
    actions = {action.signal: action for action in process.actions}
    assert actions[signal.SIGUSR1].handler > 4096
    assert actions[signal.SIGUSR1].flags & SA_RESTORER
    assert actions[signal.SIGUSR1].restorer
    assert actions[signal.SIGUSR2].handler == 1
    assert actions[40].flags & 0x1000_0000  # SA_RESTART
    assert (actions[signal.SIGCHLD].handler, actions[signal.SIGCHLD].flags) == (0, 2)
    assert signal.SIGTERM not in actions
    leader = process.threads[0]
    assert leader.sigmask == 1 << 9 | 1 << 33 | 1 << 63
    assert [struct.unpack_from("=i", info)[0] for info in process.pending] == [10, 34]
    assert struct.unpack_from("=Q", process.pending[1], 24)[0] == 0x1234
    assert [struct.unpack_from("=i", info)[0] for info in leader.pending] == [64]
    timers = {timer.which: timer for timer in process.timers}
    assert timers.keys() == {0, 2}
    assert 900_000_000 < timers[0].value_us <= 1_000_000_000
    assert (timers[0].interval_us, timers[2].interval_us) == (7_000_000, 0)


def test_no_pending_signal_is_consumed(start: Start) -> None:
    code = (
        "got = []; signal.signal(10, lambda *_: got.append(1))\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {10}); os.kill(os.getpid(), 10)\n"
    )
    victim = start(holder(code))
    captured(victim)
    assert victim.ask("signal.sigpending()") == "{<Signals.SIGUSR1: 10>}"
    victim.ask("signal.pthread_sigmask(signal.SIG_UNBLOCK, {10})")
    assert victim.ask("got") == "[1]"


def test_threads(start: Start) -> None:
    code = (
        "a = map(65536); stacks = []\n"
        "def body():\n"
        "    libc.prctl(15, b'worker'); libc.prctl(1, 12); signal.pthread_sigmask(signal.SIG_BLOCK, {3})\n"
        "    libc.syscall(131, struct.pack('=QiiQ', a, 0, 0, 65536), 0)\n"
        "in_thread(body); in_thread(lambda: None)\n"
    )
    victim = start(holder(code))
    process = captured(victim)
    tids = sorted(int(name) for name in os.listdir(f"/proc/{victim.pid}/task"))
    assert [thread.tid for thread in process.threads[:1]] == [victim.pid]
    assert sorted(thread.tid for thread in process.threads) == tids
    worker = next(thread for thread in process.threads if thread.name == "worker")
    assert (worker.altstack.sp, worker.altstack.size) == (int(victim.ask("a")), 65536)
    assert worker.altstack.flags == 0
    assert (worker.sigmask, worker.parent_death_signal) == (1 << 2, 12)
    other = next(thread for thread in process.threads if thread.tid not in (victim.pid, worker.tid))
    assert other.altstack.flags == SS_DISABLE
    for thread in process.threads:
        assert len(thread.registers) == 27 * 8
        assert len(thread.xstate) >= 576
        assert thread.clear_child_tid
        assert thread.robust_list
        assert thread.robust_list_len == 24
        assert thread.rseq is not None
        assert thread.rseq.signature == 0x53053053


def test_registers_are_those_of_the_interrupted_call(start: Start) -> None:
    """The victim reads its next command: read(0, ...) with a result that says restart."""
    victim = start(holder(""))
    wait_for_command(victim)
    process = captured(victim)
    registers = Registers.unpack(process.threads[0].registers)
    assert (registers.orig_rax, registers.rdi) == (0, 0)
    assert registers.result == -512  # -ERESTARTSYS
    assert any(m.start <= registers.rip < m.end and m.path.endswith("libc.so.6") for m in process.mappings)


def test_mappings(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "mapped"
    path.write_bytes(b"m" * 10000)
    code = (
        f"f = open({str(path)!r}, 'rb'); p = map(8192, 3, 2, f.fileno())\n"
        "s = map(65536, 3, 0x21); need(libc.munmap(ctypes.c_void_p(s + 4096), 4096))\n"
        "a = map(8192, 0); need(libc.madvise(ctypes.c_void_p(a), 8192, 10))\n"
    )
    victim = start(holder(code))
    process = captured(victim)
    vmas = read_maps(victim.pid)
    assert [(m.start, m.end, m.prot) for m in process.mappings] == [(v.start, v.end, v.prot) for v in vmas]
    by_start = {mapping.start: mapping for mapping in process.mappings}
    private = by_start[int(victim.ask("p"))]
    assert (private.kind, private.path, private.shared) == ("file", str(path), False)
    assert (private.file_size, private.file_mtime_ns) == (10000, path.stat().st_mtime_ns)
    shared = by_start[int(victim.ask("s"))]
    assert (shared.kind, shared.shared, shared.offset) == ("shmem", True, 0)
    assert by_start[int(victim.ask("s + 8192"))].inode == shared.inode
    assert process.shared_objects == (SharedObject(dev=shared.dev, inode=shared.inode, size=65536),)
    advised = by_start[int(victim.ask("a"))]
    assert (advised.kind, advised.prot) == ("anon", 0)
    assert "dc" in advised.flags  # MADV_DONTFORK
    kinds = {mapping.path: mapping.kind for mapping in process.mappings}
    assert (kinds["[heap]"], kinds["[stack]"], kinds["[vdso]"], kinds["[vvar]"]) == ("anon", "anon", "vdso", "vvar")


def test_what_came_after_the_check_is_refused(start: Start) -> None:
    victim = start(holder("r, w = os.pipe()\n"))
    with pytest.raises(CannotRestore, match=r"fd \d+: unix stream socket \(and 1 more\)") as caught:
        captured(victim, lambda: victim.ask("globals().update(s=socket.socketpair())"))
    assert len(caught.value.reasons) == 2
    assert victim.ask("os.write(w, b'x'), os.read(r, 1)") == "(1, b'x')"


def test_a_mapping_that_came_after_the_check_is_refused(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "late"
    path.write_bytes(bytes(4096))
    victim = start(holder(f"f = open({str(path)!r}, 'r+b')\n"))
    with pytest.raises(CannotRestore, match=f"shared writable mapping of {path}"):
        captured(victim, lambda: victim.ask("globals().update(m=mmap.mmap(f.fileno(), 4096))"))
    assert victim.ask("1 + 1") == "2"


def test_a_child_that_came_after_the_check_is_refused(start: Start) -> None:
    victim = start(holder(""))
    with pytest.raises(CannotRestore, match="has a child"):
        captured(victim, lambda: victim.ask("os.fork() or (libc.prctl(1, 9), signal.pause())"))


def test_system_calls_dispatched_to_the_program(start: Start) -> None:
    code = "allow = ctypes.create_string_buffer(1); need(libc.prctl(59, 1, 0, 0, allow))\n"
    victim = start(holder(code))
    with freeze(victim.pid) as frozen:
        try:
            assert ptrace.syscall_user_dispatch(frozen.leader.tid)
        except OSError:
            pytest.skip("this kernel does not tell (Linux 6.4)")
    with pytest.raises(CannotRestore, match="dispatched to itself"):
        captured(victim)
