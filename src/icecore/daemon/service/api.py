# SPDX-License-Identifier: Apache-2.0
"""The methods of io.icecore.Checkpoint: who asks, for what, and the answer. ``docs/protocol.md`` documents each."""

from collections.abc import Sequence
from importlib.resources import files

import trio

from icecore.daemon.service import arguments, authorise, views
from icecore.daemon.service.chains import Chains
from icecore.daemon.service.features import features
from icecore.daemon.service.job import Job
from icecore.daemon.service.ports import Ports, Target
from icecore.daemon.service.registry import Registry
from icecore.daemon.service.subject import Subject
from icecore.errors import NoSuchCheckpoint, UsageError
from icecore.storage.layer import LayerInfo
from icecore.varlink.framing import JsonObject
from icecore.varlink.idl import parse
from icecore.varlink.interface import Interface
from icecore.varlink.service import Call, Handler, Peer, Reply

INTERFACE = "io.icecore.Checkpoint"
LAYERS_PER_REPLY = 256
STORE_READERS = 4
"""Threads that read the store for callers: lists never wait for checkpoints, and cost little."""


def interface() -> Interface:
    """The published description."""
    return parse(files("icecore.daemon.service").joinpath(f"{INTERFACE}.varlink").read_text("utf-8"))


class Api:
    """Handlers by method name: ``handlers``."""

    def __init__(self, registry: Registry, chains: Chains, ports: Ports) -> None:
        self._registry = registry
        self._chains = chains
        self._ports = ports
        self._readers = trio.CapacityLimiter(STORE_READERS)
        self.handlers: dict[str, Handler] = {
            "Track": self.track,
            "Untrack": self.untrack,
            "Checkpoint": self.checkpoint,
            "List": self.list,
            "Show": self.show,
            "GetFeatures": self.get_features,
        }

    async def track(self, call: Call) -> Reply:
        """Hold a process and checkpoint it every interval."""
        asked = call.parameters
        pid, name, interval = arguments.pid(asked), arguments.name(asked), arguments.interval(asked)
        wanted = arguments.wanted(asked)
        target, owner = self._open_target(call.peer, pid)
        name = name or arguments.default_name(target, wanted.ranges)
        return {"target": views.target(await self._registry.track(target, owner, name, interval, wanted))}

    async def untrack(self, call: Call) -> Reply:
        """Let go of a process; its chain stays."""
        await self._registry.untrack(self._tracked(call.peer, arguments.name(call.parameters)).name)
        return {}

    async def checkpoint(self, call: Call) -> Reply:
        """One checkpoint now, with progress on the way for those who want it."""
        job = await self._begin(call)
        while call.more and (step := await job.next_progress()) is not None:
            await call.emit({"progress": views.progress(step)})
        await job.wait()
        return {"report": job.result().as_json()}

    async def list(self, call: Call) -> Reply:
        """Targets and chains that the caller may see."""
        targets = [subject for subject in self._registry if authorise.may_see(call.peer, subject.owner)]
        names = await trio.to_thread.run_sync(self._chains.names, call.peer, limiter=self._readers)
        return {"targets": [views.target(subject) for subject in targets], "chains": names}

    async def show(self, call: Call) -> Reply:
        """The checkpoints of one chain."""
        name, layer_id = arguments.name(call.parameters) or "", call.parameters.get("id")
        owner, layers = await trio.to_thread.run_sync(self._chains.layers, call.peer, name, limiter=self._readers)
        if layer_id is not None:
            layers = [info for info in layers if info.id == layer_id]
            if not layers:
                raise NoSuchCheckpoint(f"chain {name} has no checkpoint {layer_id}", f"icecore log {name} lists them")
        if not call.more:
            return _shown(name, owner, layers)
        while len(layers) > LAYERS_PER_REPLY:
            await call.emit(_shown(name, owner, layers[:LAYERS_PER_REPLY]))
            layers = layers[LAYERS_PER_REPLY:]
        return _shown(name, owner, layers)

    async def get_features(self, call: Call) -> Reply:
        """What this daemon can do on this kernel."""
        del call
        return await trio.to_thread.run_sync(features, limiter=self._readers)

    async def _begin(self, call: Call) -> Job:
        """The job of a Checkpoint call: of a tracked target, or of a process that is opened for it alone."""
        asked = call.parameters
        pid, name, kill = arguments.pid(asked), arguments.name(asked), asked.get("kill") is True
        wanted = arguments.wanted(asked)
        if pid is None:
            return _start(self._tracked(call.peer, name), asked, kill)
        target, owner = self._open_target(call.peer, pid)
        held = self._registry.holder(target, name, wanted.ranges)
        if held is None:
            name = name or arguments.default_name(target, wanted.ranges)
            return await self._registry.once(target, owner, name, kill, wanted)
        target.close()
        if name not in (None, held.name):
            raise UsageError(f"process {pid} is tracked as {held.name}, not as {name}", "leave the name out")
        return _start(held, asked, kill)

    def _open_target(self, peer: Peer, pid: int | None) -> tuple[Target, authorise.Owner]:
        """The process and its owner, if the caller may touch it. Reads a few files of /proc: no thread needed."""
        if pid is None:
            raise UsageError("neither a pid nor the name of a tracked target was given", "give one of them")
        target = self._ports.open_target(pid)
        try:
            return target, authorise.require_target(peer, target)
        except BaseException:
            target.close()
            raise

    def _tracked(self, peer: Peer, name: str | None) -> Subject:
        if name is None:
            raise UsageError("neither a pid nor the name of a tracked target was given", "give one of them")
        subject = self._registry.find(name)
        if subject is None or not authorise.may_see(peer, subject.owner):
            raise NoSuchCheckpoint(f"no target is tracked as {name}", "icecore status lists those that are")
        return subject


def _start(subject: Subject, asked: JsonObject, kill: bool) -> Job:
    """A checkpoint of a tracked target, which is as it was tracked."""
    if given := [name for name in ("ranges", "tracker", "exact") if asked.get(name) is not None]:
        raise UsageError(
            f"{subject.name} is tracked already: its {' and '.join(given)} cannot be chosen",
            "leave that out, or give the pid and another name",
        )
    return subject.start(kill)


def _shown(name: str, owner: int, layers: Sequence[LayerInfo]) -> Reply:
    return {"name": name, "owner": owner, "checkpoints": [views.layer(info) for info in layers]}
