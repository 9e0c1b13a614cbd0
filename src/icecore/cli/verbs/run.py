# SPDX-License-Identifier: Apache-2.0
"""``icecore run``."""

import argparse
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from icecore.cli import output
from icecore.cli.child import Child
from icecore.cli.inbox import Inbox
from icecore.cli.options import Common, add_tracker, chain_name, duration
from icecore.cli.rights import note_if_only_root_can_restore
from icecore.errors import UsageError

if TYPE_CHECKING:
    from icecore.cli.keeper import Keeper, Outcome
    from icecore.storage.chain import Chain

DEFAULT_INTERVAL = 10.0


class Run:
    """Start a job and checkpoint it; resume it from its newest checkpoint if it was interrupted.

    The job that ended by itself is started anew. On SIGTERM or SIGINT a last checkpoint is taken, with which the job
    ends (exit status 143 or 130): the same command resumes it. Other signals are passed on. The exit status is the
    job's, or 128 + the signal that killed it. No daemon is needed.
    """

    name: ClassVar[str] = "run"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--name", help="its chain (default: made of the program's name, arguments and directory)")
        parser.add_argument(
            "--interval", type=duration, default=DEFAULT_INTERVAL, metavar="TIME",
            help=f"between two checkpoints, such as 500ms, 2s or 5m (default {DEFAULT_INTERVAL:g}s)",
        )  # fmt: skip
        add_tracker(parser)
        parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="the job")

    def run(self, arguments: argparse.Namespace, common: Common) -> int:
        command: list[str] = arguments.command
        if command[:1] == ["--"]:
            command = command[1:]
        if not command:
            raise UsageError("no command to run", "icecore run --name JOB -- PROGRAM ARGUMENTS")
        from icecore.storage.store import Store

        chain = Store.open(common.store, create=True).create_chain(arguments.name or default_name(command))
        note_if_only_root_can_restore()
        with _kept(chain):
            return _run(chain, arguments, command, common)


@contextmanager
def _kept(chain: "Chain") -> Generator[None, None, None]:
    """Busy if another ``icecore run`` keeps the same job, this very moment or between two checkpoints."""
    from icecore.storage.lock import WriteLock

    lock = WriteLock(chain.directory / "run.lock", f"chain {chain.name}")
    try:
        yield
    finally:
        lock.release()


def default_name(command: Sequence[str]) -> str:
    """The same for the same command in the same directory, and for nothing else."""
    digest = sha256("\0".join((os.getcwd(), *command)).encode(errors="surrogateescape")).hexdigest()[:8]
    return f"{chain_name(Path(command[0]).name)[:50]}-{digest}"


def _run(chain: "Chain", arguments: argparse.Namespace, command: Sequence[str], common: Common) -> int:
    from icecore.cli.keeper import Keeper
    from icecore.cli.recorder import Recorder

    with Inbox() as inbox:
        child = _resumed(chain) or Child.start(command)
        inbox.watch(child.pidfd)
        with Recorder(child.pid, chain, arguments.tracker, arguments.exact) as recorder:
            keeper = Keeper(child, recorder.take, arguments.interval, inbox)
            outcome = keeper.keep()
    if outcome.by_itself:
        chain.set_ended(outcome.status)
    if common.json:
        output.document(_document(chain, child, keeper, outcome))
    return outcome.status


def _resumed(chain: "Chain") -> Child | None:
    """The job as it was at its newest checkpoint, if there is one and the job did not end by itself since."""
    from icecore.restore import restore

    newest = chain.newest()
    if newest is None or chain.ended() is not None:
        chain.set_ended(None)
        return None
    with chain.reader() as reader:
        restored = restore(reader, stdio=(0, 1, 2))
    taken = output.local_time(newest.time_ns)
    output.note(f"resumed {chain.name}@{newest.id} of {taken} as process {restored.pid}")
    return Child(restored.pid, restored.pidfd)


def _document(chain: "Chain", child: Child, keeper: "Keeper", outcome: "Outcome") -> dict[str, object]:
    return {
        "name": chain.name,
        "pid": child.pid,
        "status": outcome.status,
        "ended": outcome.by_itself,
        "checkpoints": keeper.taken,
        "id": keeper.last.id if keeper.last else None,
    }
