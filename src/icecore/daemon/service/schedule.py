# SPDX-License-Identifier: Apache-2.0
"""When a target's checkpoints are taken: one task per target, so that none waits for another."""

import logging
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from icecore.daemon.service.job import Job
from icecore.daemon.service.subject import Subject

log = logging.getLogger(__name__)

MAX_PAUSE = 300.0
"""Seconds between two attempts at a target that keeps failing, at most (unless its interval is longer)."""


def next_due(due: float, now: float, interval: float, failures: int) -> float:
    """When the next checkpoint is due, after the one that was due at ``due`` ended at ``now`` (seconds).

    On the grid of the interval; rounds that were missed are left out. After failures, twice the interval, four times...
    """
    if failures:
        return now + min(interval * 2.0 ** min(failures, 32), max(interval, MAX_PAUSE))
    return due + interval * max(1, math.ceil((now - due) / interval))


async def hold(subject: Subject) -> None:
    """Checkpoints ``subject`` every interval until its process ends or its scope is cancelled; then lets go of it."""
    async with _kept(subject) as nursery:
        subject.nursery = nursery
        nursery.start_soon(_rounds, subject)
        await trio.lowlevel.wait_readable(subject.target.pidfd)
        subject.exited = True
        log.info("%s: process %d (%s) has ended", subject.name, subject.target.pid, subject.target.comm)
        subject.scope.cancel()


async def hold_once(subject: Subject, job: Job, kill: bool) -> None:
    """Takes one checkpoint of ``subject``, then lets go of it."""
    async with _kept(subject):
        await subject.checkpoint(job, kill)


@asynccontextmanager
async def _kept(subject: Subject) -> AsyncGenerator[trio.Nursery]:
    """A nursery in the subject's scope; the subject is closed when all that was begun in it is over."""
    try:
        with subject.scope:
            async with trio.open_nursery() as nursery:
                yield nursery
    finally:
        subject.nursery = None
        await subject.close()


async def _rounds(subject: Subject) -> None:
    due = trio.current_time()
    while True:
        await trio.sleep_until(due)
        await subject.checkpoint(subject.job())
        due = next_due(due, trio.current_time(), subject.interval, subject.record.failures)
