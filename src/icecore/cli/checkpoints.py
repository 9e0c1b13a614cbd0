# SPDX-License-Identifier: Apache-2.0
"""The checkpoints of a chain, as rows of plain values: from the daemon if it answers, else from the store."""

from dataclasses import asdict

from icecore.cli import output
from icecore.cli.daemon import connect_if_there
from icecore.cli.fields import Row, number, records, text
from icecore.cli.options import Common


def checkpoints(common: Common, name: str, wanted: int | None = None) -> list[Row]:
    """All checkpoints of a chain, oldest first, or the one with that id. NoSuchCheckpoint if there is none."""
    daemon = connect_if_there(common)
    if daemon is None:
        return _from_store(common, name, wanted)
    with daemon:
        replies = daemon.call_more("Show", name=name, id=wanted)
        return [row for reply in replies for row in records(reply, "checkpoints")]


def _from_store(common: Common, name: str, wanted: int | None) -> list[Row]:
    from icecore.storage.store import Store

    chain = Store.open(common.store).chain(name)
    return [asdict(info) for info in (chain.layers() if wanted is None else [chain.info(wanted)])]


def summary(report: Row) -> str:
    """One line about a finished checkpoint."""
    return (
        f"checkpoint {text(report, 'name')}@{text(report, 'id')} ({text(report, 'kind')}): "
        f"paused {output.milliseconds(number(report, 'pause_us'))}, {text(report, 'pages_dirty')} dirty pages, "
        f"{output.size(number(report, 'bytes_written'))} written"
    )
