# SPDX-License-Identifier: Apache-2.0
"""A tracer that is killed between any two of its requests leaves a target that notices nothing.

Every ptrace request, wait and write of injected code is a point at which a forked tracer kills itself: first at its
first step, then at its second, until it gets through. (Random instants are in test_sigkill.)
"""

import os
import signal
from collections.abc import Callable

import pytest
from support.victim import Victim

from icecore.inject import Call, Frozen, Table, freeze, run_tables, steal_userfaultfd
from icecore.inject.vdso import own_vdso, read_vdso
from icecore.kernel import process_vm, ptrace
from icecore.kernel.arch.x86_64 import SYS_getpid
from icecore.kernel.procfs import fd_numbers, read_maps, read_status, thread_ids

Work = Callable[[Frozen], object]


def _tables(frozen: Frozen) -> object:
    """More threads than fit side by side."""
    table = Table([Call(SYS_getpid)] * 5, bytes(100))
    return run_tables(frozen, [(tracee, table) for tracee in frozen.threads])


@pytest.mark.parametrize("work", [_tables, steal_userfaultfd], ids=["tables", "userfaultfd"])
def test_dying_at_every_step(sleeper: Victim, work: Work) -> None:
    maps, fds = read_maps(sleeper.pid), fd_numbers(sleeper.pid)
    step = 0
    while _dies_at(step := step + 1, sleeper.pid, work):
        for n in range(3):  # long enough for what was left behind to run out, if it must
            assert sleeper.ask("check") == "ok 0 4", step
            assert n or all(read_status(sleeper.pid, tid).tracer_pid == 0 for tid in thread_ids(sleeper.pid))
        with freeze(sleeper.pid):
            pass  # waits until every thread is outside of what a dead tracer injected
        assert read_maps(sleeper.pid) == maps, step
        assert fd_numbers(sleeper.pid) == fds, step
        assert read_vdso(sleeper.pid).image[: own_vdso().tail] == own_vdso().image[: own_vdso().tail]
        assert all(read_status(sleeper.pid, tid).sig_blk == 0 for tid in thread_ids(sleeper.pid)), step
    assert step > 20


def _dies_at(step: int, pid: int, work: Work) -> bool:
    """Whether a tracer that kills itself at its ``step``-th request did so before it was through."""
    child = os.fork()
    if child == 0:
        try:
            _count_down(step)
            with freeze(pid) as frozen:
                work(frozen)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def _count_down(step: int) -> None:
    """Make every request to the target count, and the ``step``-th one fatal before it is made."""
    left = [step]

    def fatal(function: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object, **named: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        return counted

    ptrace.ptrace = fatal(ptrace.ptrace)  # type: ignore[assignment]
    process_vm.readv = fatal(process_vm.readv)  # type: ignore[assignment]
    process_vm.writev = fatal(process_vm.writev)  # type: ignore[assignment]
    os.pwrite = fatal(os.pwrite)  # type: ignore[assignment]
