# SPDX-License-Identifier: Apache-2.0
"""``icecore untrack``."""

import argparse
from typing import ClassVar

from icecore.cli import output
from icecore.cli.daemon import connect
from icecore.cli.options import Common


class Untrack:
    """Have the daemon take no more checkpoints of a process.

    The process goes on and its checkpoints stay.
    """

    name: ClassVar[str] = "untrack"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("chain", metavar="NAME", help="the name it is tracked under (icecore status)")

    def run(self, arguments: argparse.Namespace, common: Common) -> int:
        with connect(common) as daemon:
            daemon.call("Untrack", name=arguments.chain)
        if common.json:
            output.document({"untracked": arguments.chain})
        else:
            print(f"{arguments.chain} is no longer tracked; its checkpoints stay")
        return 0
