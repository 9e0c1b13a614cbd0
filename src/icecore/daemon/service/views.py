# SPDX-License-Identifier: Apache-2.0
"""What goes into replies: the types of io.icecore.Checkpoint.varlink from the service's own objects."""

from icecore.daemon.service.ports import Progress
from icecore.daemon.service.subject import Subject
from icecore.daemon.tracker.base import Range
from icecore.storage.layer import LayerInfo


def target(subject: Subject) -> dict[str, object]:
    """``type Target``."""
    record, wanted = subject.record, subject.wanted
    return {
        "name": subject.name,
        "pid": subject.target.pid,
        "start_time": subject.target.start_time,
        "comm": subject.target.comm,
        "owner": subject.owner,
        "interval": subject.interval,
        "ranges": [memory_range(one) for one in wanted.ranges],
        "tracker": record.last.tracker if record.last else wanted.tracker,
        "tracker_reason": record.last.tracker_reason if record.last else "",
        "exact": wanted.exact,
        "state": subject.state,
        "taken": record.taken,
        "last": record.last.as_json() if record.last else None,
        "failures": record.failures,
        "problem": problem(subject),
    }


def memory_range(one: Range) -> dict[str, object]:
    """``type Range``."""
    return {"name": one} if isinstance(one, str) else {"start": one[0], "end": one[1]}


def problem(subject: Subject) -> dict[str, object] | None:
    """``type Problem``, of the last checkpoint if it failed."""
    error = subject.record.problem
    if error is None:
        return None
    text = {"error": error.name, "message": error.message, "remedy": error.remedy}
    return {**text, "time_ns": subject.record.problem_ns}


def progress(step: Progress) -> dict[str, object]:
    """``type Progress``."""
    return {"phase": step.phase, "done": step.done, "total": step.total}


def layer(info: LayerInfo) -> dict[str, object]:
    """``type Layer``."""
    return {name: getattr(info, name) for name in LAYER_FIELDS}


LAYER_FIELDS = (
    *("id", "kind", "digest", "parent", "time_ns", "tracker", "tracker_reason", "rounds", "pause_us"),
    *("pages_populated", "pages_dirty", "pages_stored", "bytes_raw", "bytes_written"),
    *("ranges", "pid", "start_time", "comm"),
)
