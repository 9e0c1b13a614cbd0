# SPDX-License-Identifier: Apache-2.0
"""The daemon as the verbs see it: perhaps there, perhaps not."""

from icecore.cli.options import Common
from icecore.errors import DaemonUnreachable
from icecore.varlink.client import Client


def connect(common: Common) -> Client:
    """A connection; DaemonUnreachable if nobody answers."""
    return Client(common.socket)


def connect_if_there(common: Common) -> Client | None:
    """A connection, or None: no daemon answers, or another store than its own was named."""
    if not common.use_daemon:
        return None
    try:
        return connect(common)
    except DaemonUnreachable:
        return None
