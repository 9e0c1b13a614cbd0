# SPDX-License-Identifier: Apache-2.0
"""``icecore show``."""

import argparse
from typing import ClassVar

from icecore.cli import output
from icecore.cli.checkpoints import checkpoints
from icecore.cli.fields import Row, number, text
from icecore.cli.options import Common, reference
from icecore.errors import NoSuchCheckpoint


class Show:
    """Everything that is known about one checkpoint."""

    name: ClassVar[str] = "show"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("checkpoint", type=reference, metavar="NAME[@ID]", help="the newest if no id is given")

    def run(self, arguments: argparse.Namespace, common: Common) -> int:
        name, wanted = arguments.checkpoint
        rows = checkpoints(common, name, wanted)
        if not rows:
            raise NoSuchCheckpoint(f"the chain {name} holds no checkpoint yet", "take one: icecore checkpoint PID")
        row = {"name": name, **rows[-1]}
        if common.json:
            output.document(row)
        else:
            output.fields(_lines(row))
        return 0


def _lines(row: Row) -> list[tuple[str, str]]:
    memory, stored = number(row, "pages_populated") * 4096, number(row, "pages_stored")
    raw, written = output.size(number(row, "bytes_raw")), output.size(number(row, "bytes_written"))
    return [
        ("checkpoint", f"{text(row, 'name')}@{text(row, 'id')}"),
        ("kind", f"{text(row, 'kind')}{' (memory of some ranges only)' if row['ranges'] else ''}"),
        ("taken", output.local_time(number(row, "time_ns"))),
        ("process", f"{text(row, 'pid')} ({text(row, 'comm')})"),
        ("pause", output.milliseconds(number(row, "pause_us"))),
        ("tracker", " ".join(filter(None, (text(row, "tracker"), text(row, "tracker_reason"))))),
        ("rounds", text(row, "rounds")),
        ("memory", f"{output.size(memory)} in {text(row, 'pages_populated')} pages"),
        ("dirty", f"{text(row, 'pages_dirty')} pages"),
        ("stored", f"{stored} pages, {raw}, in {written}"),
        ("digest", text(row, "digest")),
        ("parent", text(row, "parent") or "none"),
    ]
