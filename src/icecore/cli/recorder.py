# SPDX-License-Identifier: Apache-2.0
"""The checkpoints of one process, taken by ourselves."""

from types import TracebackType
from typing import Self

from icecore.daemon.engine import Checkpointer
from icecore.daemon.report import Report
from icecore.daemon.target import Target
from icecore.storage.chain import Chain


class Recorder:
    """Takes hold of the process at the first checkpoint: one that cannot be checkpointed at all may still run."""

    def __init__(self, pid: int, chain: Chain, tracker: str, exact: bool) -> None:
        self._pid = pid
        self._chain = chain
        self._tracker = tracker
        self._exact = exact
        self._target: Target | None = None
        self._checkpointer: Checkpointer | None = None

    def take(self, kill: bool) -> Report:
        """One checkpoint; raises what ``Target.open`` and ``Checkpointer.checkpoint`` raise."""
        if self._target is None:
            self._target = Target.open(self._pid)
        if self._checkpointer is None:
            self._checkpointer = Checkpointer.open(self._target, self._chain, self._tracker, exact=self._exact)
        return self._checkpointer.checkpoint(kill)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._checkpointer is not None:
            self._checkpointer.close()
        if self._target is not None:
            self._target.close()
