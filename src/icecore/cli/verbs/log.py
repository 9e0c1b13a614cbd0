# SPDX-License-Identifier: Apache-2.0
"""``icecore log``."""

import argparse
from typing import ClassVar

from icecore.cli import output
from icecore.cli.checkpoints import checkpoints
from icecore.cli.fields import Row, number, text
from icecore.cli.options import Common


class Log:
    """The checkpoints of a chain, oldest first."""

    name: ClassVar[str] = "log"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("chain", metavar="NAME")

    def run(self, arguments: argparse.Namespace, common: Common) -> int:
        rows = checkpoints(common, arguments.chain)
        if common.json:
            output.document({"checkpoints": rows})
        else:
            headings = ("ID", "KIND", "TAKEN", "PAUSE", "MEMORY", "DIRTY", "STORED", "WRITTEN")
            output.table(headings, [_columns(row) for row in rows], left=3)
        return 0


def _columns(row: Row) -> list[str]:
    return [
        f"@{text(row, 'id')}",
        text(row, "kind"),
        output.local_time(number(row, "time_ns")),
        output.milliseconds(number(row, "pause_us")),
        output.size(number(row, "pages_populated") * 4096),
        text(row, "pages_dirty"),
        text(row, "pages_stored"),
        output.size(number(row, "bytes_written")),
    ]
