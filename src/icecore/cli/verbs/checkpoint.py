# SPDX-License-Identifier: Apache-2.0
"""``icecore checkpoint``."""

import argparse
from contextlib import suppress
from dataclasses import asdict
from typing import ClassVar

from icecore.cli import options, output
from icecore.cli.checkpoints import summary
from icecore.cli.daemon import connect_if_there
from icecore.cli.fields import Row, number, record, text
from icecore.cli.options import Common, add_ranges, add_tracker, range_fields
from icecore.cli.progress import Bar
from icecore.cli.rights import note_if_only_root_can_restore
from icecore.errors import IcecoreError


class Checkpoint:
    """Take one checkpoint of a running process.

    Through the daemon if it answers; else by itself, comparing all memory with the newest checkpoint of the chain.
    With --range only that memory is kept, without the state of the process. A target that the daemon tracks under that
    name is checkpointed as it is tracked.
    """

    name: ClassVar[str] = "checkpoint"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("pid", type=options.pid, metavar="PID", help="the process")
        parser.add_argument("--name", help="the chain that it is added to (default: COMM-PID, or COMM-PID-RANGE)")
        parser.add_argument("--kill", action="store_true", help="end the process at the moment that is kept")
        add_tracker(parser)
        add_ranges(parser, "only this memory")

    def run(self, arguments: argparse.Namespace, common: Common) -> int:
        with Bar() as bar:
            report = self._take(arguments, common, bar)
        if common.json:
            output.document(report)
        else:
            print(summary(report))
        return 0

    def _take(self, arguments: argparse.Namespace, common: Common, bar: Bar) -> Row:
        daemon = connect_if_there(common)
        if daemon is None:
            return _by_ourselves(arguments, common, bar)
        with daemon:
            replies = daemon.call_more(
                "Checkpoint",
                pid=arguments.pid,
                name=arguments.name,
                kill=arguments.kill,
                ranges=range_fields(arguments.ranges),
                tracker=None if arguments.tracker == "auto" else arguments.tracker,
                exact=None if arguments.exact else False,
            )
            report: Row | None = None
            for reply in replies:
                report = record(reply, "report") or report
                if progress := record(reply, "progress"):
                    bar.update(text(progress, "phase"), number(progress, "done"), number(progress, "total"))
        if report is None:
            raise IcecoreError(
                "the daemon did not say what became of the checkpoint", "see icecore status, and its log"
            )
        return report


def _by_ourselves(arguments: argparse.Namespace, common: Common, bar: Bar) -> Row:
    from icecore.daemon.engine import Checkpointer
    from icecore.daemon.service.arguments import default_name
    from icecore.daemon.target import Target
    from icecore.storage.store import Store

    ranges = tuple(arguments.ranges)
    with Target.open(arguments.pid) as target:
        name = arguments.name or default_name(target, ranges)
        chain = Store.open(common.store, create=True).create_chain(name)
        note_if_only_root_can_restore()
        # Nothing was tracked since the last checkpoint: everything is compared with it. A tracker still pays, since all
        # but what is written meanwhile is read and compared while the process runs.
        try:
            with Checkpointer.open(target, chain, arguments.tracker, ranges, arguments.exact) as engine:
                return asdict(engine.checkpoint(arguments.kill, lambda now: bar.update(now.phase, now.done, now.total)))
        except IcecoreError:
            with suppress(OSError):
                chain.directory.rmdir()  # made for a process that was then refused: it is empty
            raise
