# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint costs: pause, bytes and time, each beside its limit (``make bench``; bench/README.md)."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests"), str(ROOT)]

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from bench.measure import Load, Run, one_run  # noqa: E402

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: the median, the spread, and the limit that it must keep, in one unit."""

    name: str
    values: Sequence[float]
    unit: str
    limit: float | None = None
    digits: int = 2

    @property
    def kept(self) -> bool:
        return self.limit is None or median(self.values) <= self.limit

    def cells(self) -> list[str]:
        """For the table."""
        middle, low, high = median(self.values), min(self.values), max(self.values)
        verdict = "" if self.limit is None else "[green]kept" if self.kept else "[red]MISSED"
        limit = "" if self.limit is None else f"<= {self.limit:g} {self.unit}"
        return [self.name, *(f"{value:.{self.digits}f}" for value in (middle, low, high)), self.unit, limit, verdict]


def rows(runs: Sequence[Run]) -> list[Row]:
    """The figures of all runs together."""

    def every(name: str, scale: float = 1.0) -> list[float]:
        return [value * scale for run in runs for value in asdict(run)[name]]

    def each(name: str, scale: float = 1.0) -> list[float]:
        return [asdict(run)[name] * scale for run in runs]

    share = [100 * w / s for run in runs for w, s in zip(run.written, run.stored, strict=True) if s]
    return [
        Row("pause, by icecore's clock", every("pauses", 1e-3), "ms", 4),
        Row("pause, by the victim's clock", every("gaps", 1e-3), "ms", 4),
        Row("longest gap without a checkpoint", every("noise", 1e-3), "ms"),
        Row("delta, share of the dirty bytes", share, "%", 25, 1),
        Row("delta", every("written", 1 / 1024), "KiB", digits=0),
        Row("dirty bytes", every("stored", 1 / 1024), "KiB", digits=0),
        Row("delta, first to last step", every("seconds", 1e3), "ms", digits=0),
        Row("rounds", every("rounds"), "", digits=0),
        Row("restore of the newest", each("restore_seconds"), "s", 1),
        Row("keyframe, first to last step", each("keyframe_seconds"), "s"),
        Row("keyframe", each("keyframe_bytes", 1 / MEBIBYTE), "MiB", digits=0),
        Row("memory of the engine, peak", each("peak_rss", 1 / MEBIBYTE), "MiB", 300, 0),
    ]


def table(load: Load, runs: Sequence[Run]) -> Table:
    """Everything on one screen."""
    title = (
        f"{load.mebibytes} MiB, {load.pages_per_second} pages written and {1 / load.interval:g} checkpoints a second: "
        f"{len(runs)} runs of {load.checkpoints}, tracker {runs[0].tracker}"
    )
    grid = Table(title=title, title_justify="left")
    for heading in ("", "median", "least", "most", "", "limit", ""):
        grid.add_column(heading, justify="left" if heading in ("", "limit") else "right")
    for row in rows(runs):
        grid.add_row(*row.cells())
    return grid


def foreign_load() -> str:
    """A warning if others keep the processors busy: the last minute's load average before anything of ours runs."""
    load, processors = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load < processors / 4:
        return ""
    return f"The machine was busy before (load {load:.1f} on {processors} processors): the times say little."


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024, help="the victim's memory (default 1024)")
    parser.add_argument("--rate", type=int, default=3000, help="pages written a second (default 3000)")
    parser.add_argument("--checkpoints", type=int, default=10, help="deltas in each run (default 10)")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between them (default 1)")
    parser.add_argument("--runs", type=int, default=3, help="default 3")
    parser.add_argument("--store", type=Path, help="where the stores are made (default: the temporary directory)")
    parser.add_argument("--json", action="store_true", help="all figures of every run, for programs")
    return parser.parse_args()


def main() -> int:
    """Status 1 if a limit was missed."""
    given = arguments()
    load = Load(given.mib, given.rate, given.checkpoints, given.interval)
    warning = foreign_load()
    runs: list[Run] = []
    for _ in range(given.runs):
        with tempfile.TemporaryDirectory(prefix="icecore-bench-", dir=given.store) as directory:
            runs.append(one_run(load, Path(directory) / "store"))
    if given.json:
        print(json.dumps({"load": asdict(load), "runs": [asdict(run) for run in runs]}))
    else:
        console = Console(width=None if sys.stdout.isatty() else 130)
        console.print(table(load, runs), warning)
    return 0 if all(row.kept for row in rows(runs)) else 1


if __name__ == "__main__":
    sys.exit(main())
