# SPDX-License-Identifier: Apache-2.0
"""The errors that a person or a program sees: one small tree.

Each class carries its exit status and its name on the socket. A message is one line that names the thing (pid, fd
and path, mapping, layer and offset); a remedy is one line that says what to do. ``kernel/`` raises plain ``OSError``;
whoever knows what was being attempted turns it into one of these. Anything else that escapes is a bug.
"""

from typing import ClassVar


class IcecoreError(Exception):
    """Base of every expected failure."""

    exit_code: ClassVar[int] = 1
    name: ClassVar[str] = "Failed"

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def parameters(self) -> dict[str, object]:
        """What a program gets beside the name: always JSON-able."""
        return {"message": self.message, "remedy": self.remedy}


class UsageError(IcecoreError):
    """The command line or a request does not make sense."""

    exit_code = 2
    name = "Usage"


class NoSuchProcess(IcecoreError):
    """No process has that pid, or the process that had it is gone."""

    exit_code = 3
    name = "NoSuchProcess"


class NotPermitted(IcecoreError):
    """The kernel, or the daemon for it, does not let this caller touch that process or store."""

    exit_code = 4
    name = "NotPermitted"


class CannotRestore(IcecoreError):
    """The target holds what a restore could not bring back (found before the freeze), or a restore failed."""

    exit_code = 5
    name = "CannotRestore"

    def __init__(self, message: str, remedy: str = "", reasons: tuple[str, ...] = ()) -> None:
        super().__init__(message, remedy)
        self.reasons = reasons

    def parameters(self) -> dict[str, object]:
        return {**super().parameters(), "reasons": list(self.reasons)}


class KernelLacks(IcecoreError):
    """This kernel has no such ability."""

    exit_code = 6
    name = "KernelLacks"


class StoreUnusable(IcecoreError):
    """The store is missing, not a store, not writable or full."""

    exit_code = 7
    name = "StoreUnusable"


class StoreCorrupt(IcecoreError):
    """A layer, head or chain is damaged: the message names chain, layer and offset."""

    exit_code = 8
    name = "StoreCorrupt"


class NoSuchCheckpoint(IcecoreError):
    """The store holds no chain of that name, or the chain no checkpoint of that id."""

    exit_code = 9
    name = "NoSuchCheckpoint"


class Busy(IcecoreError):
    """Somebody else is at it: a pid in use, a target being traced, a chain being written."""

    exit_code = 10
    name = "Busy"


class TargetGone(NoSuchProcess):
    """The target exited or executed another program while it was being checkpointed."""

    exit_code = 11
    name = "TargetGone"


class DaemonUnreachable(IcecoreError):
    """Nothing answers on the daemon's socket."""

    exit_code = 12
    name = "DaemonUnreachable"
