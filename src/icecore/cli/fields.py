# SPDX-License-Identifier: Apache-2.0
"""Fields of what the daemon replies, each of the type that its interface promises."""

from collections.abc import Mapping
from typing import Never, TypeAlias

from icecore.errors import UsageError
from icecore.varlink.framing import Json

Row: TypeAlias = Mapping[str, Json]


def number(row: Row, field: str) -> int:
    """An integer."""
    value = row.get(field)
    return value if isinstance(value, int) else _missing(field)


def seconds(row: Row, field: str) -> float:
    """A number of seconds."""
    value = row.get(field)
    return value if isinstance(value, int | float) else _missing(field)


def text(row: Row, field: str) -> str:
    """A string, or a figure as one."""
    value = row.get(field)
    return str(value) if isinstance(value, str | int | float) else _missing(field)


def record(row: Row, field: str) -> Row | None:
    """An object that may be missing or null."""
    value = row.get(field)
    return value if isinstance(value, dict) else None


def records(row: Row, field: str) -> list[Row]:
    """An array of objects."""
    value = row.get(field)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else _missing(field)


def texts(row: Row, field: str) -> list[str]:
    """An array of strings."""
    value = row.get(field)
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else _missing(field)


def _missing(field: str) -> Never:
    raise UsageError(f"the daemon's reply has no proper {field!r}", "use one release of icecore and icecored")
