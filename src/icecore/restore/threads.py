# SPDX-License-Identifier: Apache-2.0
"""Threads: made by the leader with their old ids, then each sets up in its own name what is the thread's own."""

import os
import struct

from icecore.kernel import ptrace
from icecore.kernel.arch.x86_64 import (
    SYS_clone3,
    SYS_prctl,
    SYS_rseq,
    SYS_set_robust_list,
    SYS_set_tid_address,
    SYS_sigaltstack,
)
from icecore.kernel.clone3 import CLONE_ARGS_SIZE, CLONE_THREAD_FLAGS, clone_args
from icecore.kernel.prctl import PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_PDEATHSIG
from icecore.kernel.procfs import read_status
from icecore.restore.calls import Calls
from icecore.restore.credentials import set_credentials
from icecore.restore.stub import BLOCK_ALL, Stub
from icecore.storage.records import AltStack, Process, Thread

_STACK = struct.Struct("<QIIQ")
_SS_DISABLE, _SS_AUTODISARM = 2, 1 << 31
_SUID_DUMP_USER = 1


def make_threads(stub: Stub, process: Process) -> None:
    """All threads but the leader, each stopped before its first instruction."""
    calls = Calls()
    for thread in process.threads[1:]:
        where = stub.keep(struct.pack("<i", thread.tid))
        arguments = clone_args(flags=CLONE_THREAD_FLAGS, set_tid=where, set_tid_size=1)
        calls.add(f"make thread {thread.tid}", SYS_clone3, arguments, CLONE_ARGS_SIZE, expect=thread.tid)
    stub.run(calls)
    for tid in stub.threads[1:]:
        stub.wait(tid)
        ptrace.set_sigmask(tid, BLOCK_ALL)


def set_up_threads(stub: Stub, process: Process) -> None:
    """In each thread's context; its credentials last, since they may take the right to the rest away."""
    now = read_status(stub.pid)
    for thread in process.threads:
        calls = Calls()
        _set_up(calls, thread)
        set_credentials(calls, now, process.credentials)
        if thread.parent_death_signal:  # a change of credentials clears it
            what = "set the parent death signal"
            calls.add(what, SYS_prctl, PR_SET_PDEATHSIG, thread.parent_death_signal, 0, 0, 0)
        stub.run(calls, thread.tid)


def set_dumpable(stub: Stub, process: Process) -> None:
    """After the credentials, whose change resets it; what it was set to by such a change (2) cannot be asked for."""
    dumpable = int(process.dumpable == _SUID_DUMP_USER)
    stub.syscall("set dumpable", SYS_prctl, PR_SET_DUMPABLE, dumpable, 0, 0, 0)


def _set_up(calls: Calls, thread: Thread) -> None:
    of = f"of thread {thread.tid}"
    calls.add(f"set the name {of}", SYS_prctl, PR_SET_NAME, os.fsencode(thread.name) + b"\0", 0, 0, 0)
    calls.add(f"set the clear_child_tid {of}", SYS_set_tid_address, thread.clear_child_tid, expect=thread.tid)
    if thread.robust_list:
        calls.add(f"set the robust list {of}", SYS_set_robust_list, thread.robust_list, thread.robust_list_len)
    if thread.rseq:
        r = thread.rseq
        calls.add(f"register the rseq area {of}", SYS_rseq, r.address, r.size, r.flags, r.signature)
    _set_altstack(calls, thread.altstack, of)


def _set_altstack(calls: Calls, stack: AltStack, of: str) -> None:
    """A new thread has none; SS_ONSTACK is not for us to set: the kernel sees it by the stack pointer."""
    if stack.size and not stack.flags & _SS_DISABLE:
        packed = _STACK.pack(stack.sp, stack.flags & _SS_AUTODISARM, 0, stack.size)
        calls.add(f"set the alternate stack {of}", SYS_sigaltstack, packed, 0)


def set_states(process: Process) -> None:
    """Floating point state, signal mask and registers: from here on nothing may run in the process but itself.

    A call that the checkpoint interrupted (-ERESTART* in rax) is left to the kernel, which on the way back to user
    space restarts it or, if a signal is to be handled first, makes it EINTR, by its own rules. One that can only go on
    through restart_syscall ends with EINTR: a new thread has no restart block.
    """
    for thread in process.threads:
        ptrace.set_xstate(thread.tid, thread.xstate)
        ptrace.set_sigmask(thread.tid, thread.sigmask)
        ptrace.set_registers(thread.tid, thread.registers)
