# SPDX-License-Identifier: Apache-2.0
"""What people and programs read: one JSON object, or text; errors on stderr; figures with their units."""

import json
import sys
import time
from collections.abc import Mapping, Sequence

from icecore.errors import CannotRestore, IcecoreError

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def document(value: Mapping[str, object]) -> None:
    """Prints the one JSON object of ``--json``."""
    print(json.dumps(value, indent=2 if sys.stdout.isatty() else None))


def error(problem: IcecoreError, *, as_json: bool = False) -> None:
    """``icecore: message``, the reasons if there are several, the remedy; with ``as_json`` also an object on stdout."""
    note(problem.message)
    reasons = problem.reasons if isinstance(problem, CannotRestore) else ()
    for reason in reasons if len(reasons) > 1 else ():
        print(f"  - {reason}", file=sys.stderr)
    if problem.remedy:
        print(f"  {problem.remedy}", file=sys.stderr)
    sys.stderr.flush()
    if as_json:
        document({"error": {"name": problem.name, "exit_code": problem.exit_code, **problem.parameters()}})


def note(text: str) -> None:
    """A line for the person, beside the output proper."""
    print(f"icecore: {text}", file=sys.stderr, flush=True)


def size(count: int) -> str:
    """Bytes with a binary unit: "3.4 MiB"."""
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{count} B" if unit == 0 else f"{value:.{0 if value >= 100 else 1}f} {_UNITS[unit]}"


def milliseconds(microseconds: int) -> str:
    """A pause: "1.34 ms"."""
    return f"{microseconds / 1000:.2f} ms"


def local_time(nanoseconds: int) -> str:
    """A moment (ns since the epoch) in local time, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(nanoseconds / 1e9))


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """Prints a table; the first ``left`` columns are aligned left, the others (figures) right."""
    from rich.console import Console
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for position, heading in enumerate(headings):
        grid.add_column(heading, justify="left" if position < left else "right", no_wrap=position >= left)
    for row in rows:
        grid.add_row(*row)
    wide = max(200, sum(map(len, headings)))
    Console(width=None if sys.stdout.isatty() else wide, highlight=False, markup=False).print(grid)


def fields(pairs: Sequence[tuple[str, str]]) -> None:
    """Prints aligned "name  value" lines."""
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        print(f"{name:<{width}}  {value}")
