# SPDX-License-Identifier: Apache-2.0
"""``icecored``: the entry point, which puts service and engine together."""

from collections.abc import Sequence

from icecore.daemon.service import program
from icecore.daemon.service.real import real_ports


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 after SIGTERM or SIGINT, else that of the error."""
    return program.run(arguments, real_ports())
