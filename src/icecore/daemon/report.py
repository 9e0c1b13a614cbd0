# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint tells while it is taken, and when it is done."""

from collections.abc import Callable
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """A phase (``check``, ``arm``, ``pre-copy``, ``freeze``, ``write``) and how many of its pages are done."""

    phase: str
    done: int = 0
    total: int = 0


Listener = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One finished checkpoint."""

    name: str
    pid: int
    id: int
    kind: str
    """``keyframe`` or ``delta``."""
    tracker: str
    tracker_reason: str
    """Why this one, for people."""
    rounds: int
    """Reads of memory, the frozen one included."""
    pause_us: int
    """Microseconds for which the target did not run."""
    pages_populated: int
    pages_dirty: int
    """Pages that were read because they might have changed."""
    pages_stored: int
    bytes_raw: int
    """``pages_stored`` uncompressed."""
    bytes_written: int
    """Size of the layer file."""

    def as_json(self) -> dict[str, object]:
        """The object that ``--json`` prints."""
        return asdict(self)
