# SPDX-License-Identifier: Apache-2.0
"""Every target that the daemon holds, by name: no chain is held twice, and no process as a whole."""

import logging
from collections.abc import Iterator
from functools import partial

import trio

from icecore.daemon.service.authorise import ROOT, Owner
from icecore.daemon.service.chains import Chains
from icecore.daemon.service.job import Job
from icecore.daemon.service.ports import Engine, Ports, Target, Wanted
from icecore.daemon.service.schedule import hold, hold_once
from icecore.daemon.service.subject import Subject
from icecore.daemon.tracker.base import Ranges
from icecore.errors import Busy, NoSuchCheckpoint

log = logging.getLogger(__name__)

MAX_TARGETS = 1000
"""Held at once: each costs a thread while it is checkpointed, a few fds, and the engine's buffers."""
MAX_TARGETS_OF_USER = 250
"""Of those, for one uid other than root: nobody takes all places."""
MAX_EXITED = 100
"""Ended targets that List still shows."""


class Registry:
    """Subjects by name. Their tasks run in ``nursery``; all methods belong to the trio thread."""

    def __init__(self, chains: Chains, ports: Ports, nursery: trio.Nursery) -> None:
        self._chains = chains
        self._ports = ports
        self._nursery = nursery
        self._subjects: dict[str, Subject] = {}

    def __iter__(self) -> Iterator[Subject]:
        return iter(list(self._subjects.values()))

    def find(self, name: str) -> Subject | None:
        """The subject of that name, ended ones included."""
        return self._subjects.get(name)

    def holder(self, target: Target, name: str | None, ranges: Ranges) -> Subject | None:
        """The subject that a checkpoint of this process is of: the one of that name, or the one that holds it as a
        whole, unless it is asked for some ranges."""
        alive = [subject for subject in self if not subject.exited and _same(subject.target, target)]
        named = (subject for subject in alive if subject.name == name)
        return next(named, None) or (None if ranges else next(filter(_is_whole, alive), None))

    async def track(self, target: Target, owner: Owner, name: str, interval: float, wanted: Wanted) -> Subject:
        """Holds ``target`` (its own from here on) and checkpoints it every interval, the first time at once.

        Raises what the engine refuses, Busy when the process (as a whole) or the name is held already; the target is
        closed then.
        """
        subject = await self._admit(target, owner, name, interval, wanted)
        try:
            await subject.prepare()
        except BaseException:
            self._forget(subject)
            await subject.close()
            raise
        self._nursery.start_soon(hold, subject)
        log.info("%s: process %d (%s) is tracked every %g s", name, target.pid, target.comm, interval)
        return subject

    async def once(self, target: Target, owner: Owner, name: str, kill: bool, wanted: Wanted) -> Job:
        """One checkpoint of a process that is not tracked, in the background. Raises Busy as ``track`` does."""
        subject = await self._admit(target, owner, name, 0.0, wanted)
        job = subject.job()
        self._nursery.start_soon(self._hold_once, subject, job, kill)
        return job

    async def untrack(self, name: str) -> None:
        """Lets go of a subject; returns when nothing of it is left in the target. Its last checkpoint may be lost."""
        subject = self._subjects.get(name)
        if subject is None:
            raise NoSuchCheckpoint(f"no target is tracked as {name}", "icecore status lists those that are")
        subject.stop()
        log.info("%s: let go of process %d (%s)", name, subject.target.pid, subject.target.comm)
        await subject.closed.wait()
        self._forget(subject)

    def stop(self) -> None:
        """Every running checkpoint is finished or abandoned; the tasks end soon."""
        for subject in self:
            subject.stop()

    async def _hold_once(self, subject: Subject, job: Job, kill: bool) -> None:
        try:
            await hold_once(subject, job, kill)
        finally:
            self._forget(subject)
            job.finish()  # not before: the caller may ask for the next one at once

    async def _admit(self, target: Target, owner: Owner, name: str, interval: float, wanted: Wanted) -> Subject:
        """A new subject under its name, so that whoever comes next finds it taken."""
        try:
            while (old := self._subjects.get(name)) is not None and old.exited and not old.closed.is_set():
                await old.closed.wait()
            self._refuse(target, name, owner, wanted)
        except BaseException:
            target.close()
            raise
        open_engine = partial(self._open_engine, target, owner, name, wanted)
        subject = Subject(name, target, owner.uid, interval, wanted, open_engine)
        self._subjects.pop(name, None)
        self._subjects[name] = subject
        self._drop_oldest_exited()
        return subject

    def _refuse(self, target: Target, name: str, owner: Owner, wanted: Wanted) -> None:
        other = None if wanted.ranges else self.holder(target, None, ())
        if other is not None:
            raise Busy(f"process {target.pid} ({target.comm}) is held as {other.name}", f"icecore untrack {other.name}")
        other = self._subjects.get(name)
        if other is not None and not other.exited:
            raise Busy(f"the name {name} is in use for process {other.target.pid}", "give another name, or untrack it")
        owners = [subject.owner for subject in self if not subject.exited]
        if len(owners) >= MAX_TARGETS or (owner.uid != ROOT and owners.count(owner.uid) >= MAX_TARGETS_OF_USER):
            raise Busy("the daemon holds as many targets as it may", "untrack some")

    def _open_engine(self, target: Target, owner: Owner, name: str, wanted: Wanted) -> Engine:
        """Blocking."""
        chain, new = self._chains.claim(name, owner)
        try:
            return self._ports.open_engine(target, chain, wanted)
        except BaseException:
            if new:
                self._chains.remove_empty(chain)
            raise

    def _drop_oldest_exited(self) -> None:
        exited = [subject for subject in self if subject.exited and subject.closed.is_set()]
        for subject in exited[: max(0, len(exited) - MAX_EXITED)]:
            self._forget(subject)

    def _forget(self, subject: Subject) -> None:
        if self._subjects.get(subject.name) is subject:
            del self._subjects[subject.name]


def _same(one: Target, other: Target) -> bool:
    return (one.pid, one.start_time) == (other.pid, other.start_time)


def _is_whole(subject: Subject) -> bool:
    return not subject.wanted.ranges
