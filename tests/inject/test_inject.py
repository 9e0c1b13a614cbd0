# SPDX-License-Identifier: Apache-2.0
"""System calls in another process: right results, nothing left behind, no signal lost."""

import os
import signal
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.victim import Start, Victim
from support.waiting import wait_until

from icecore.errors import Busy, KernelLacks, NoSuchProcess, TargetGone
from icecore.inject import Call, Data, Table, freeze, run_table, run_tables, steal_userfaultfd
from icecore.inject.vdso import own_vdso, read_vdso
from icecore.kernel import ptrace
from icecore.kernel.arch.x86_64 import SYS_getpid, SYS_gettid, SYS_prctl, SYS_rt_sigaction
from icecore.kernel.procfs import fd_numbers, read_maps, read_status, thread_ids

PR_GET_NAME = 16


def test_every_thread_can_be_made_to_call(sleeper: Victim) -> None:
    before = read_maps(sleeper.pid)
    with freeze(sleeper.pid) as frozen:
        assert sorted(tracee.tid for tracee in frozen.threads) == sorted(thread_ids(sleeper.pid))
        for tracee in frozen.threads:
            result = run_table(frozen, tracee, [Call(SYS_getpid), Call(SYS_gettid)], b"")
            assert result.values == [sleeper.pid, tracee.tid]
    assert read_maps(sleeper.pid) == before
    assert sleeper.ask("check") == "ok 0 4"


def test_more_threads_than_there_is_room_for(sleeper: Victim) -> None:
    """Each answers for itself, with data of its own, and is where it was."""
    before = read_maps(sleeper.pid)
    own = Table([Call(SYS_gettid), Call(SYS_prctl, (PR_GET_NAME, Data(0)))], b"x" * 32)
    with freeze(sleeper.pid) as frozen:
        threads = frozen.threads
        state = [(tracee.registers(), tracee.sigmask(), tracee.xstate()) for tracee in threads]
        assert frozen.trampoline.slots > 1
        frozen.trampoline.slots = min(frozen.trampoline.slots, len(threads) - 1)
        results = run_tables(frozen, [(tracee, own) for tracee in threads])
        assert [result.values for result in results] == [[tracee.tid, 0] for tracee in threads]
        assert all(result.data[16:] == b"x" * 16 for result in results)
        assert [(tracee.registers(), tracee.sigmask(), tracee.xstate()) for tracee in threads] == state
    assert read_maps(sleeper.pid) == before
    assert sleeper.ask("check") == "ok 0 4"


def test_data_goes_in_and_comes_out(sleeper: Victim) -> None:
    with freeze(sleeper.pid) as frozen:
        calls = [Call(SYS_rt_sigaction, (signal.SIGUSR1, 0, Data(0), 8)), Call(SYS_prctl, (PR_GET_NAME, Data(64)))]
        result = run_table(frozen, frozen.leader, calls, b"x" * 128)
    assert result.values == [0, 0]
    handler, flags, restorer, _ = struct.unpack_from("<4Q", result.data)
    assert min(handler, restorer) > 4096
    assert flags & 0x04000000  # SA_RESTORER
    name = Path(f"/proc/{sleeper.pid}/comm").read_text().strip().encode()
    assert result.data[64:80].startswith(name + b"\0")
    assert result.data[80:] == b"x" * 48


def test_errors_come_back_as_numbers_and_an_empty_table_is_nothing(sleeper: Victim) -> None:
    with freeze(sleeper.pid) as frozen:
        assert run_table(frozen, frozen.leader, [Call(9999)], b"").values == [-38]
        assert run_table(frozen, frozen.leader, [], b"").values == []


def test_a_table_of_a_thousand_calls(sleeper: Victim) -> None:
    with freeze(sleeper.pid) as frozen:
        assert run_table(frozen, frozen.leader, [Call(SYS_getpid)] * 1000, b"").values == [sleeper.pid] * 1000


def test_a_userfaultfd_is_ours_alone(sleeper: Victim) -> None:
    before = fd_numbers(sleeper.pid)
    with freeze(sleeper.pid) as frozen:
        fd = steal_userfaultfd(frozen)
    try:
        assert os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:[userfaultfd]"
        assert fd_numbers(sleeper.pid) == before
    finally:
        os.close(fd)


def test_no_code_stays(sleeper: Victim) -> None:
    with freeze(sleeper.pid) as frozen:
        run_table(frozen, frozen.leader, [Call(SYS_getpid)], b"")
        os.close(steal_userfaultfd(frozen))
    assert read_vdso(sleeper.pid).image == own_vdso().image


def test_registers_masks_and_fpu_are_as_before(sleeper: Victim) -> None:
    with freeze(sleeper.pid) as frozen:
        for tracee in frozen.threads:
            before = tracee.registers(), tracee.sigmask(), tracee.xstate()
            run_table(frozen, tracee, [Call(SYS_getpid)] * 3, bytes(64))
            assert (tracee.registers(), tracee.sigmask(), tracee.xstate()) == before


def test_signals_sent_meanwhile_all_arrive(sleeper: Victim) -> None:
    """Each of them is a standard signal, so one is sent a freeze and must have been counted before the next."""
    for n in range(1, 20):
        with freeze(sleeper.pid) as frozen:
            if n % 2:
                sleeper.signal(signal.SIGUSR1)
            run_table(frozen, frozen.leader, [Call(SYS_getpid)], b"")
            if not n % 2:
                sleeper.signal(signal.SIGUSR1)
            os.close(steal_userfaultfd(frozen))
        assert sleeper.ask("check") == f"ok {n} 4"


def test_a_stopped_process_stays_stopped(sleeper: Victim) -> None:
    sleeper.signal(signal.SIGSTOP)
    os.waitid(os.P_PIDFD, sleeper.pidfd, os.WSTOPPED | os.WNOWAIT)
    with freeze(sleeper.pid) as frozen:
        assert run_table(frozen, frozen.leader, [Call(SYS_getpid)], b"").values == [sleeper.pid]
    wait_until(lambda: read_status(sleeper.pid).state == "T", "the stop that the freeze interrupted")
    sleeper.signal(signal.SIGCONT)
    assert sleeper.ask("check") == "ok 0 4"


def test_a_thousand_freezes(sleeper: Victim) -> None:
    for _ in range(1000):
        with freeze(sleeper.pid):
            pass
    assert sleeper.ask("check") == "ok 0 4"


def test_a_traced_process_is_busy(sleeper: Victim) -> None:
    with freeze(sleeper.pid):
        status, words = _in_child(lambda: freeze(sleeper.pid).__enter__())
    assert status == Busy.exit_code
    assert f"process {sleeper.pid} is traced by process {os.getpid()}" in words


def test_a_process_that_is_gone(sleeper: Victim) -> None:
    sleeper.kill()
    with pytest.raises(NoSuchProcess, match=str(sleeper.pid)), freeze(sleeper.pid):
        pass


def test_a_killed_target_is_left_to_its_parent(sleeper: Victim) -> None:
    with freeze(sleeper.pid) as frozen:
        frozen.kill()
    assert sleeper.wait() == -signal.SIGKILL
    assert not Path(f"/proc/{sleeper.pid}").exists()


def test_a_target_killed_by_somebody_else_while_frozen(sleeper: Victim) -> None:
    def work() -> None:
        with freeze(sleeper.pid) as frozen:
            sleeper.signal(signal.SIGKILL)
            run_table(frozen, frozen.leader, [Call(SYS_getpid)], b"")

    with ThreadPoolExecutor(1) as tracer:
        error = tracer.submit(work).exception()
    assert isinstance(error, TargetGone)
    assert sleeper.wait() == -signal.SIGKILL


def _in_child(function: object) -> tuple[int, str]:
    """Exit code and message of an IcecoreError that ``function`` raises in a forked child."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            assert callable(function)
            function()
        except (Busy, KernelLacks, NoSuchProcess) as error:
            os.write(writer, str(error).encode())
            code = error.exit_code
        finally:
            os._exit(code)
    os.close(writer)
    with open(reader, encoding="utf-8") as pipe:
        words = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), words


WAITER = r"""
import ctypes, os, select, signal, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
epoll = select.epoll()
reader, writer = os.pipe()
epoll.register(reader, select.EPOLLIN)
results = []
def wait_epoll():
    events = ctypes.create_string_buffer(64)
    results.append(("epoll_wait", libc.epoll_wait(epoll.fileno(), events, 1, -1), ctypes.get_errno()))
def wait_signal():
    results.append(("sigwaitinfo", libc.sigwaitinfo(ctypes.byref(ctypes.c_uint64(1 << 11)), None), ctypes.get_errno()))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
threads = [threading.Thread(target=wait_epoll), threading.Thread(target=wait_signal)]
for thread in threads: thread.start()
print("ready", os.getpid(), [thread.native_id for thread in threads], flush=True)
sys.stdin.readline()
os.write(writer, b"x")
os.kill(os.getpid(), signal.SIGUSR2)
for thread in threads: thread.join()
print(sorted(results), flush=True)
sys.stdin.readline()
"""


def test_waits_without_a_time_out_are_not_interrupted() -> None:
    """epoll_wait and sigwaitinfo fail with EINTR after any stop (signal(7)); ours goes unnoticed."""
    with Victim.start([sys.executable, "-I", "-c", WAITER]) as victim:
        for _ in range(20):
            wait_until_blocked(victim.pid)
            with freeze(victim.pid) as frozen:
                for tracee in frozen.threads:
                    run_table(frozen, tracee, [Call(SYS_gettid)], b"")
        assert victim.ask("go") == "[('epoll_wait', 1, 0), ('sigwaitinfo', 12, 0)]"


def wait_until_blocked(pid: int) -> None:
    """Until every thread sleeps in the kernel."""
    while any(read_status(pid, tid).state != "S" for tid in thread_ids(pid)):
        os.sched_yield()


ENDING = r"""
import sys, threading
thread = threading.Thread(target=sys.stdin.readline)
thread.start()
print("ready", flush=True)
thread.join()
for line in sys.stdin:
    print("ok", flush=True)
"""


def test_a_thread_that_ends_between_seize_and_interrupt(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is nobody's trouble: the others are frozen, and nothing of it is left to keep the process from ending."""
    victim = start([sys.executable, "-I", "-c", ENDING])
    (thread,) = [tid for tid in thread_ids(victim.pid) if tid != victim.pid]
    interrupt = ptrace.interrupt

    def late(tid: int) -> None:
        if tid == thread:
            victim.tell("end")
            wait_until(lambda: read_status(victim.pid, thread).state == "Z", "the thread's end")
        interrupt(tid)

    # The main thread may run on until its turn comes.
    monkeypatch.setattr(ptrace, "interrupt", late)
    with freeze(victim.pid) as frozen:
        assert [tracee.tid for tracee in frozen.threads] == [victim.pid]
    assert victim.ask("anything") == "ok"
    assert thread_ids(victim.pid) == [victim.pid]
