# SPDX-License-Identifier: Apache-2.0
"""Parameters that have the right type but may still make no sense: UsageError says what would."""

import re
from itertools import pairwise

from icecore.daemon.service.ports import Target, Wanted
from icecore.daemon.tracker import NAMES
from icecore.daemon.tracker.base import Range, Ranges
from icecore.daemon.tracker.ranges import spell
from icecore.errors import NoSuchProcess, UsageError
from icecore.kernel.procfs import is_name
from icecore.storage.store import check_name
from icecore.varlink.framing import Json, JsonObject

PAGE = 4096
MAX_RANGES = 256
MIN_INTERVAL, DEFAULT_INTERVAL, MAX_INTERVAL = 0.1, 1.0, 30 * 86400.0
MAX_PID = 1 << 22
LONGEST_NAME = 64
MAX_SHOWN = 100
"""Characters of nonsense that an error repeats; longer than any name."""


def pid(parameters: JsonObject) -> int | None:
    """``pid``, or None if it was left out."""
    value = _int(parameters.get("pid"))
    if value is not None and not 0 < value <= MAX_PID:
        raise NoSuchProcess(f"no process can have pid {value}", "give the pid of a running process")
    return value


def name(parameters: JsonObject) -> str | None:
    """``name``, or None if it was left out."""
    value = parameters.get("name")
    if not isinstance(value, str):
        return None
    return check_name(value[:MAX_SHOWN])


def default_name(target: Target, ranges: Ranges = ()) -> str:
    """``comm-pid``, for ranges ``comm-pid-heap`` and the like, with what a name must not hold replaced."""
    words = [target.comm, str(target.pid), *(spell(one).strip("/[]") for one in ranges[:1])]
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(words)).lstrip("._-")[:LONGEST_NAME]


def interval(parameters: JsonObject) -> float:
    """``interval`` in seconds."""
    value = parameters.get("interval")
    seconds = float(value) if isinstance(value, int | float) else DEFAULT_INTERVAL
    if not MIN_INTERVAL <= seconds <= MAX_INTERVAL:
        raise UsageError(
            f"an interval of {seconds:g} s is out of range", f"give {MIN_INTERVAL:g} to {MAX_INTERVAL:g} seconds"
        )
    return seconds


def wanted(parameters: JsonObject) -> Wanted:
    """``tracker``, ``ranges`` and ``exact``."""
    return Wanted(tracker(parameters), ranges(parameters), parameters.get("exact") is not False)


def tracker(parameters: JsonObject) -> str:
    """``tracker``."""
    value = parameters.get("tracker")
    if value is None:
        return NAMES[0]
    if value not in NAMES:
        raise UsageError(f"no tracker is called {str(value)[:MAX_SHOWN]!r}", f"use one of {', '.join(NAMES)}")
    return str(value)


def ranges(parameters: JsonObject) -> Ranges:
    """``ranges``: addresses, ascending, then names."""
    given = parameters.get("ranges")
    found = [_range(item) for item in given] if isinstance(given, list) else []
    if len(found) > MAX_RANGES:
        raise UsageError(f"{len(found)} ranges are too many", f"give at most {MAX_RANGES}")
    addresses = sorted(one for one in found if not isinstance(one, str))
    for (_, end), (start, _) in pairwise(addresses):
        if start < end:
            raise UsageError(f"two ranges overlap at {start:#x}", "give each address once")
    return (*addresses, *dict.fromkeys(one for one in found if isinstance(one, str)))


def _range(item: Json) -> Range:
    fields = item if isinstance(item, dict) else {}
    if fields.get("name") is not None:
        return _name_of_mapping(fields)
    start, end = _int(fields.get("start")) or 0, _int(fields.get("end")) or 0
    if not 0 <= start < end or start % PAGE or end % PAGE:
        raise UsageError(f"not a range of pages: {start:#x} to {end:#x}", "give start < end, multiples of 4096")
    return start, end


def _name_of_mapping(fields: JsonObject) -> str:
    name = str(fields["name"])
    if not is_name(name) or fields.get("start") is not None or fields.get("end") is not None:
        raise UsageError(
            f"not a range: {name[:MAX_SHOWN]!r}",
            "give either start and end, or a name: heap, stack, or a path as /proc/PID/maps shows it",
        )
    return name


def _int(value: Json) -> int | None:
    return value if isinstance(value, int) else None
