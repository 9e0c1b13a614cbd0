# SPDX-License-Identifier: Apache-2.0
"""``icecore track``."""

import argparse
from typing import ClassVar

from icecore.cli import options, output
from icecore.cli.daemon import connect
from icecore.cli.fields import number, record, seconds, text
from icecore.cli.options import Common, add_tracker, address_range, duration


class Track:
    """Have the daemon checkpoint a running process at an interval.

    It goes on until the process ends or ``icecore untrack NAME``.
    """

    name: ClassVar[str] = "track"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("pid", type=options.pid, metavar="PID", help="the process")
        parser.add_argument("--name", help="its chain (default: COMM-PID)")
        parser.add_argument("--interval", type=duration, metavar="TIME", help="such as 500ms, 2s or 5m (default 1s)")
        add_tracker(parser)
        parser.add_argument(
            "--range", type=address_range, action="append", metavar="START-END", dest="ranges",
            help="only these addresses (hexadecimal; may be repeated); such checkpoints hold memory only",
        )  # fmt: skip

    def run(self, arguments: argparse.Namespace, common: Common) -> int:
        ranges = [{"start": start, "end": end} for start, end in arguments.ranges or ()]
        with connect(common) as daemon:
            reply = daemon.call(
                "Track",
                pid=arguments.pid,
                name=arguments.name,
                interval=arguments.interval,
                ranges=ranges or None,
                tracker=arguments.tracker,
            )
        target = record(reply, "target")
        if common.json or target is None:
            output.document(reply)
        else:
            pid, name, interval = number(target, "pid"), text(target, "name"), seconds(target, "interval")
            print(f"tracking process {pid} as {name}, every {interval:g} s")
        return 0
