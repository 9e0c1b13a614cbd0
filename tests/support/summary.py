# SPDX-License-Identifier: Apache-2.0
"""What the trackers did, as two tables at the end of the run: the events of ``docs/tracking.md``, and the torture.

Tests record figures with pytest's ``record_property``. A guest's pytest prints them as lines of JSON, from which the
host's test of that guest records them again (``recorded``).
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Self

import pytest
from support.torture_round import Totals
from vm.session import IN_GUEST

GUEST_LINE = "figure"
COLUMNS = {"write-protect": "write", "soft-dirty": "soft", "soft-dirty --no-exact": "soft*", "content": "cont."}
WORDS = {"compared": "comp.", "keyframe": "keyf.", "missed": "MISS", "refused": "-"}
LEGEND = (
    "write: write-protect, soft: soft-dirty, soft*: soft-dirty --no-exact, cont.: content; "
    "comp.: compared, keyf.: keyframe, -: the kernel refuses it"
)
"""Each word is explained in docs/tracking.md."""
FIRST_WIDTH, WIDTH = 27, 6

Record = Callable[[str, object], None]


@dataclass(frozen=True, slots=True)
class Torture:
    """What one run of the torture came to."""

    kernel: str
    tracker: str
    exact: bool
    operations: int
    checkpoints: int
    missed: int
    false: int
    """Pages stored though equal."""

    @classmethod
    def of(cls, tracker: str, exact: bool, totals: Totals) -> Self:
        """On this kernel."""
        counted = (totals.operations, totals.checkpoints, totals.missed, totals.false)
        return cls(running_kernel(), tracker, exact, *counted)


@dataclass(frozen=True, slots=True)
class Happened:
    """What a tracker made of an event."""

    kernel: str
    event: str
    column: str
    word: str


def running_kernel() -> str:
    """Its version; Debian's release names do not tell the third number of a 6.1."""
    uname = os.uname()
    found = re.search(r"Debian (\d+\.\d+\.\d+)", uname.version) or re.match(r"(\d+\.\d+\.\d+)", uname.release)
    return found[1] if found else uname.release


def record(record_property: Record, figure: Torture | Happened) -> None:
    """Keep it for the end."""
    record_property(type(figure).__name__, json.dumps(asdict(figure)))


def record_again(output: str, record_property: Record) -> int:
    """Keep what a guest has printed; returns how many figures these are."""
    lines = [line for line in output.splitlines() if line.startswith(GUEST_LINE)]
    for line in lines:
        _, name, values = line.split(" ", 2)
        record_property(name, values)
    return len(lines)


def write(reporter: pytest.TerminalReporter) -> None:
    """At the end of the run: nothing, if no figure was recorded."""
    figures = list(_figures(reporter))
    if IN_GUEST in os.environ:
        for figure in figures:
            reporter.write_line(f"{GUEST_LINE} {type(figure).__name__} {json.dumps(asdict(figure))}")
        return
    happened = [figure for figure in figures if isinstance(figure, Happened)]
    tortures = [figure for figure in figures if isinstance(figure, Torture)]
    if happened:
        reporter.section("events (docs/tracking.md) under each kernel")
        _write_all(reporter, (LEGEND, *_events(happened)))
    if tortures:
        reporter.section("torture")
        _write_all(reporter, _tortures(tortures))


def _write_all(reporter: pytest.TerminalReporter, lines: Iterable[str]) -> None:
    for line in lines:
        reporter.write_line(line.rstrip())


def _figures(reporter: pytest.TerminalReporter) -> Iterator[Torture | Happened]:
    kinds = {kind.__name__: kind for kind in (Torture, Happened)}
    for report in (report for reports in reporter.stats.values() for report in reports):
        if isinstance(report, pytest.TestReport) and report.when == "call":
            for name, values in report.user_properties:
                if name in kinds and isinstance(values, str):
                    yield kinds[name](**json.loads(values))


def _events(happened: Sequence[Happened]) -> Iterator[str]:
    """A row for each event, a column for each tracker of each kernel."""
    there = {(figure.kernel, figure.column) for figure in happened}
    kernels = sorted({kernel for kernel, _ in there}, key=_version)
    columns = [(kernel, column) for kernel in kernels for column in COLUMNS if (kernel, column) in there]
    words = {(figure.event, figure.kernel, figure.column): figure.word for figure in happened}
    widths = [WIDTH * sum(kernel == one for one, _ in columns) for kernel in kernels]
    yield " " * FIRST_WIDTH + "".join(f"{kernel:{width}}" for kernel, width in zip(kernels, widths, strict=True))
    yield _row("event", [COLUMNS[column] for _, column in columns])
    for event in dict.fromkeys(figure.event for figure in happened):
        found = [words.get((event, *column), "") for column in columns]
        yield _row(event, [WORDS.get(word, word) for word in found])


def _row(name: str, cells: Iterable[str]) -> str:
    return f"{name:{FIRST_WIDTH}}" + "".join(f"{cell:{WIDTH}}" for cell in cells)


def _tortures(tortures: Iterable[Torture]) -> Iterator[str]:
    yield f"{'kernel':10}{'tracker':24}{'operations':>12}{'checkpoints':>13}{'missed':>8}{'false':>7}"
    for one in sorted(tortures, key=lambda one: _version(one.kernel)):
        name = one.tracker if one.exact else f"{one.tracker} --no-exact"
        counters = f"{one.operations:12,}{one.checkpoints:13,}{one.missed:8,}{one.false:7,}"
        yield f"{one.kernel:10}{name:24}{counters}"


def _version(kernel: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", kernel)]
