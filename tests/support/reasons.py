# SPDX-License-Identifier: Apache-2.0
"""What a check says of a process, for tests."""

import errno
import os

import pytest
from support.holders import Start, holder
from support.victim import Victim

from icecore.daemon.check import Reason, check
from icecore.daemon.target import Target

UNSUPPORTED = (errno.ENOSYS, errno.ENODEV, errno.EOPNOTSUPP)


def reasons_of(pid: int) -> list[Reason]:
    with Target.open(pid) as target:
        return check(target)


def kinds_of(pid: int) -> set[str]:
    return {reason.kind for reason in reasons_of(pid)}


def only_reason(pid: int) -> Reason:
    reasons = reasons_of(pid)
    assert len(reasons) == 1, "\n".join(map(str, reasons))
    return reasons[0]


def start_or_skip(start: Start, code: str) -> Victim:
    """A kernel that does not have the thing at all needs no refusal of it."""
    victim = start(holder(f"try:\n  {code}\nexcept OSError as error:\n  failed = error.errno\nelse:\n  failed = 0\n"))
    if (failed := int(victim.ask("failed"))) in UNSUPPORTED:
        pytest.skip(f"this kernel does not have it: {os.strerror(failed)}")
    assert failed == 0, os.strerror(failed)
    return victim
