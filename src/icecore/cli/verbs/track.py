# SPDX-License-Identifier: Apache-2.0
"""``icecore track``."""

import argparse
from typing import ClassVar

from icecore.cli import options, output
from icecore.cli.daemon import connect
from icecore.cli.fields import number, record, seconds, text
from icecore.cli.options import Common, add_ranges, add_tracker, duration, range_fields


class Track:
    """Have the daemon checkpoint a running process at an interval.

    It goes on until the process ends or ``icecore untrack NAME``. With --range only that memory is kept, without the
    state of the process; a process can be tracked so under several names at once.
    """

    name: ClassVar[str] = "track"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("pid", type=options.pid, metavar="PID", help="the process")
        parser.add_argument("--name", help="its chain (default: COMM-PID, or COMM-PID-RANGE)")
        parser.add_argument("--interval", type=duration, metavar="TIME", help="such as 500ms, 2s or 5m (default 1s)")
        add_tracker(parser)
        add_ranges(parser, "only this memory")

    def run(self, arguments: argparse.Namespace, common: Common) -> int:
        with connect(common) as daemon:
            reply = daemon.call(
                "Track",
                pid=arguments.pid,
                name=arguments.name,
                interval=arguments.interval,
                ranges=range_fields(arguments.ranges),
                tracker=arguments.tracker,
                exact=arguments.exact,
            )
        target = record(reply, "target")
        if common.json or target is None:
            output.document(reply)
        else:
            pid, name, interval = number(target, "pid"), text(target, "name"), seconds(target, "interval")
            print(f"tracking process {pid} as {name}, every {interval:g} s")
        return 0
