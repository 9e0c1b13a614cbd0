# SPDX-License-Identifier: Apache-2.0
"""What tracking costs, by tracker, for small and huge pages, beside mprotect and pagemap (bench/README.md).

python -m bench.trackers [--mib 512] [--runs 5] [--json]
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests"), str(ROOT)]

import numpy as np  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from support.programs import c_program  # noqa: E402
from support.trackers import working_trackers  # noqa: E402
from support.victim import Victim  # noqa: E402

from icecore.daemon.page_reader import PageReader  # noqa: E402
from icecore.daemon.tracker import Tracker, choose  # noqa: E402
from icecore.inject import freeze  # noqa: E402
from icecore.kernel.pagemap import Pagemap  # noqa: E402
from icecore.kernel.procfs import read_maps  # noqa: E402
from icecore.storage.hashing import hash_pages  # noqa: E402
from icecore.storage.runs import Runs, split_blocks  # noqa: E402

SHARES = (0, 1, 50, 100)
"""Per cent of the pages that are written between two collects."""
SIZES = ("4k", "thp")
PAGES_PER_BLOCK = 256


@dataclass(slots=True)
class Cost:
    """Best of all runs: times in ms per GiB of memory, of a write in ns."""

    tracker: str
    pages: str
    write_ns: float | None = None
    """The first write to a page after arming, every page being written; next to ``plain_ns``."""
    plain_ns: float | None = None
    """A write to a page that is not tracked."""
    arm_ms: float | None = None
    collect_ms: dict[int, float] = field(default_factory=dict[int, float])

    def better(self, share: int, milliseconds: float) -> None:
        self.collect_ms[share] = min(milliseconds, self.collect_ms.get(share, milliseconds))


def least(known: float | None, found: float) -> float:
    """The best so far."""
    return found if known is None else min(known, found)


def milliseconds(work: Callable[[], object]) -> float:
    """Of one call."""
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1e3


def write(victim: Victim, share: int) -> float:
    """Nanoseconds per page."""
    spent, pages = victim.expect("ok", f"touch {share}").split()
    return int(spent) / max(int(pages), 1)


def compare(pid: int, pages: Runs) -> None:
    """What has to follow where content decides: every page is read and hashed."""
    reader = PageReader(pid)
    for block in split_blocks(pages, PAGES_PER_BLOCK):
        hash_pages(reader.read(block)[1])
    reader.close()


def collect(victim: Victim, tracker: Tracker) -> None:
    """To know what was written and to be armed again."""
    if tracker.name != "content":
        tracker.collect(read_maps(victim.pid))
        return
    with freeze(victim.pid):
        moment = tracker.collect_frozen(read_maps(victim.pid))
        compare(victim.pid, moment.in_doubt)


def arm(victim: Victim, tracker: Tracker) -> None:
    """From nothing to tracked."""
    with freeze(victim.pid) as frozen:
        tracker.arm(frozen)
    if tracker.name != "content":
        tracker.collect(read_maps(victim.pid))


def one_tracker(victim: Victim, mebibytes: int, cost: Cost) -> None:
    """One run; the tracker is gone afterwards."""
    scale = 1024 / mebibytes
    cost.plain_ns = least(cost.plain_ns, write(victim, 100))
    tracker = choose(victim.pid, cost.tracker)
    cost.arm_ms = least(cost.arm_ms, milliseconds(lambda: arm(victim, tracker)) * scale)
    collect(victim, tracker)
    cost.write_ns = least(cost.write_ns, write(victim, 100))
    for share in SHARES:
        collect(victim, tracker)
        if share:
            write(victim, share)
        cost.better(share, milliseconds(lambda: collect(victim, tracker)) * scale)
    tracker.close()


def by_mprotect(victim: Victim, mebibytes: int, cost: Cost) -> None:
    """The peer: the target protects its memory itself and handles the faults; collecting is protecting again."""
    spent, pages, armed = (int(word) for word in victim.expect("ok", "protect 100").split())
    cost.write_ns = least(cost.write_ns, spent / pages)
    cost.arm_ms = least(cost.arm_ms, armed / 1e6 * 1024 / mebibytes)


def by_pagemap(victim: Victim, mebibytes: int, cost: Cost) -> None:
    """The peer: 8 bytes for each page, whatever is written."""
    start = int(victim.greeting.split()[1])
    with Pagemap(victim.pid) as pagemap:
        spent = milliseconds(lambda: np.count_nonzero(pagemap.entries(start, start + (mebibytes << 20))))
    for share in SHARES:
        cost.better(share, spent * 1024 / mebibytes)


def measure(mebibytes: int, runs: int) -> list[Cost]:
    """All rows."""
    costs: list[Cost] = []
    for size in SIZES:
        for name in (*working_trackers(), "mprotect", "pagemap"):
            work = {"mprotect": by_mprotect, "pagemap": by_pagemap}.get(name, one_tracker)
            costs.append(cost := Cost(name, size))
            for _ in range(runs):  # a victim for each: huge pages do not come back
                with Victim.start([c_program("toucher"), str(mebibytes), size]) as victim:
                    work(victim, mebibytes, cost)
    return costs


def is_emulated() -> bool:
    """Whether the processor is a program: its times say nothing about real ones."""
    return "ICECORE_VM_GUEST" in os.environ


LABELS = {"content": "content, read and hashed", "mprotect": "mprotect and SIGSEGV", "pagemap": "reading pagemap"}


def table(mebibytes: int, costs: list[Cost]) -> Table:
    """One line for each tracker and page size."""
    mark = " (emulated)" if is_emulated() else ""
    grid = Table(title=f"Tracking {mebibytes} MiB, ms per GiB, best of all runs{mark}", title_justify="left")
    grid.add_column("tracker")
    grid.add_column("pages")
    for heading in ("write, ns", "untracked", "arm", *(f"collect {share} %" for share in SHARES)):
        grid.add_column(heading, justify="right")
    for cost in costs:
        times = [cost.arm_ms, *(cost.collect_ms.get(share) for share in SHARES)]
        grid.add_row(
            LABELS.get(cost.tracker, cost.tracker) + mark,
            "4 KiB" if cost.pages == "4k" else "huge",
            *("-" if value is None else f"{value:.0f}" for value in (cost.write_ns, cost.plain_ns)),
            *("-" if value is None else f"{value:.2f}" for value in times),
        )
    return grid


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=512, help="the victim's memory (default 512)")
    parser.add_argument("--runs", type=int, default=3, help="default 3")
    parser.add_argument("--json", action="store_true", help="all figures, for programs")
    given = parser.parse_args()
    costs = measure(given.mib, given.runs)
    if given.json:
        print(json.dumps({"emulated": is_emulated(), "mib": given.mib, "costs": [asdict(cost) for cost in costs]}))
    else:
        Console(width=None if sys.stdout.isatty() else 130).print(table(given.mib, costs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
