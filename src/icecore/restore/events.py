# SPDX-License-Identifier: Apache-2.0
"""Event objects: eventfd, epoll, timerfd, signalfd."""

import errno
import os
import struct
import time

from icecore.kernel.arch.x86_64 import (
    SYS_epoll_create1,
    SYS_epoll_ctl,
    SYS_eventfd2,
    SYS_ioctl,
    SYS_signalfd4,
    SYS_timerfd_create,
    SYS_timerfd_settime,
    SYS_write,
)
from icecore.restore.calls import Calls
from icecore.restore.fdtable import FdTable
from icecore.storage.records import Epoll, EventFd, SignalFd, TimerFd

EPOLL_CTL_ADD = 1
TFD_IOC_SET_TICKS = 0x40085400
TFD_TIMER_ABSTIME = 1
_NS = 10**9
_EPOLL_EVENT = struct.Struct("<IQ")
_ITIMERSPEC = struct.Struct("<4q")


def eventfd(calls: Calls, fds: FdTable, record: EventFd) -> int:
    """The count may exceed the 32 bits of eventfd2's argument, so it is written."""
    flags = record.flags & os.O_NONBLOCK | os.EFD_SEMAPHORE * record.semaphore
    fd = fds.new(calls, "make an eventfd", SYS_eventfd2, 0, flags)
    if record.count:
        calls.add("set an eventfd's count", SYS_write, fd, struct.pack("<Q", record.count), 8, expect=8)
    return fd


def epoll(calls: Calls, fds: FdTable) -> int:
    """An empty one: its targets come when all fds are in place."""
    return fds.new(calls, "make an epoll", SYS_epoll_create1, 0)


def add_targets(calls: Calls, fd: int, record: Epoll, streams: set[int]) -> None:
    """Register what the epoll at ``fd`` watched; one of ``streams`` may now be a file that cannot be (EPERM)."""
    for target in record.targets:
        event = _EPOLL_EVENT.pack(target.events, target.data)
        what = f"add fd {target.fd} to the epoll of fd {fd}"
        refusals = (errno.EPERM,) if target.fd in streams else ()
        calls.add(what, SYS_epoll_ctl, fd, EPOLL_CTL_ADD, target.fd, event, tolerate=refusals)


def timerfd(calls: Calls, fds: FdTable, record: TimerFd) -> int:
    """It goes on with the time that was left; one set to an absolute time is so again, for that time."""
    fd = fds.new(calls, "make a timerfd", SYS_timerfd_create, record.clock, record.flags & os.O_NONBLOCK)
    if record.value_ns or record.interval_ns:
        absolute = bool(record.settime_flags & TFD_TIMER_ABSTIME) and record.value_ns > 0
        value = record.value_ns + (time.clock_gettime_ns(record.clock) if absolute else 0)
        setting = _ITIMERSPEC.pack(*divmod(record.interval_ns, _NS), *divmod(value, _NS))
        flags = record.settime_flags if absolute else 0
        calls.add("set a timerfd", SYS_timerfd_settime, fd, flags, setting, 0)
    if record.ticks:
        calls.add("set a timerfd's ticks", SYS_ioctl, fd, TFD_IOC_SET_TICKS, struct.pack("<Q", record.ticks))
    return fd


def signalfd(calls: Calls, fds: FdTable, record: SignalFd) -> int:
    """Its mask is all there is to it."""
    mask = struct.pack("<Q", record.mask)
    return fds.new(calls, "make a signalfd", SYS_signalfd4, -1, mask, 8, record.flags & os.O_NONBLOCK)
