# SPDX-License-Identifier: Apache-2.0
"""Signal actions, and the signals that were pending."""

import signal
import struct

from icecore.kernel.arch.x86_64 import SYS_rt_sigaction, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo
from icecore.restore.calls import Calls
from icecore.restore.stub import Stub
from icecore.storage.records import Process

SIGNALS = 64
_MASK_SIZE = 8
_ACTION = struct.Struct("<4Q")
_SIGNO = struct.Struct("<i")
_UNCATCHABLE = (signal.SIGKILL, signal.SIGSTOP)


def set_actions(calls: Calls, process: Process) -> None:
    """List all actions, the default ones too: the stub inherited ours."""
    actions = {a.signal: _ACTION.pack(a.handler, a.flags, a.restorer, a.mask) for a in process.actions}
    for number in range(1, SIGNALS + 1):
        if number not in _UNCATCHABLE:
            action = actions.get(number, bytes(_ACTION.size))
            calls.add(f"set the action of signal {number}", SYS_rt_sigaction, number, action, 0, _MASK_SIZE)


def queue_pending(stub: Stub, process: Process) -> None:
    """Queue again what was pending, each in the thread it was for: only from itself may a thread queue any siginfo.

    One by one without the runner: its report, a SIGSTOP, would discard a pending SIGCONT.
    """
    for info in process.pending:
        (number,) = _SIGNO.unpack_from(info)
        what = f"queue signal {number}"
        stub.syscall(what, SYS_rt_sigqueueinfo, stub.pid, number, stub.keep(info))
    for thread in process.threads:
        for info in thread.pending:
            (number,) = _SIGNO.unpack_from(info)
            what = f"queue signal {number} for thread {thread.tid}"
            arguments = (stub.pid, thread.tid, number, stub.keep(info))
            stub.syscall(what, SYS_rt_tgsigqueueinfo, *arguments, tid=thread.tid)
