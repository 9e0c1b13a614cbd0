# SPDX-License-Identifier: Apache-2.0
"""The ports as they are: real processes and the checkpoint engine."""

from icecore.daemon import check
from icecore.daemon.engine import Checkpointer
from icecore.daemon.service.ports import Engine, Ports, Wanted
from icecore.daemon.service.ports import Target as TargetPort
from icecore.daemon.target import Target
from icecore.daemon.tracker.turn import turn_of
from icecore.storage.chain import Chain


def real_ports() -> Ports:
    """For the daemon."""
    return Ports(Target.open, open_engine)


def open_engine(target: TargetPort, chain: Chain, wanted: Wanted) -> Engine:
    """An engine for a process that could be restored: CannotRestore says at once what speaks against it."""
    assert isinstance(target, Target)
    if not wanted.ranges:
        with turn_of(target.pid, target.start_time):
            reasons = check.check(target)
        if reasons:
            raise check.cannot_restore(target.label, reasons)
    return Checkpointer.open(target, chain, wanted.tracker, wanted.ranges, wanted.exact)
