# SPDX-License-Identifier: Apache-2.0
"""Which memory of a checkpoint goes into a running process."""

from collections.abc import Iterator
from dataclasses import replace

from icecore.errors import UsageError
from icecore.kernel.procfs import Span, spans_of
from icecore.restore.memory import MEMORY_KINDS
from icecore.restore.source import RangeSource
from icecore.storage.records import Mapping

SHOWN = 8
"""Mappings that an error lists."""
Ranges = tuple[Span | str, ...]
"""Each [start, end) in bytes, or the name of mappings (``kernel.procfs.spans_of``)."""


def choose(reader: RangeSource, ranges: Ranges) -> tuple[Mapping, ...]:
    """The mappings, cut to the ranges. UsageError: the checkpoint does not have one of them."""
    mappings, everything = _held(reader)
    if not ranges and not everything:
        raise UsageError(
            "the checkpoint is of a whole process, whose memory cannot all go into one that runs",
            "choose some of it: --range heap, --range START-END",
        )
    spans = everything if not ranges else [span for one in ranges for span in _spans(one, mappings)]
    return tuple(piece for mapping in mappings for piece in _cut(mapping, sorted(spans)))


def _held(reader: RangeSource) -> tuple[list[Mapping], list[Span]]:
    """The mappings, and the ranges unless it is a whole process."""
    record = reader.memory
    mappings = reader.process.mappings if record is None else record.mappings
    kept = [m for m in mappings if m.kind in MEMORY_KINDS and not (m.shared and m.kind == "file")]
    return kept, [] if record is None else list(record.ranges)


def _spans(one: Span | str, mappings: list[Mapping]) -> list[Span]:
    if isinstance(one, str):
        spans, spelt = spans_of(one, mappings), one
    else:
        spans, spelt = [one], f"{one[0]:x}-{one[1]:x}"
    if not any(_overlap(mapping, span) for span in spans for mapping in mappings):
        held = ", ".join(f"{m.start:x}-{m.end:x}" + f" {m.path}" * bool(m.path) for m in mappings[:SHOWN])
        raise UsageError(
            f"the checkpoint has no memory at {spelt}", f"it has {held}{', ...' * (len(mappings) > SHOWN)}"
        )
    return spans


def _overlap(mapping: Mapping, span: Span) -> bool:
    return mapping.start < span[1] and span[0] < mapping.end


def _cut(mapping: Mapping, spans: list[Span]) -> Iterator[Mapping]:
    """The parts of a mapping in the spans, which are ascending and may overlap."""
    done = mapping.start
    for span in spans:
        start, end = max(done, span[0]), min(mapping.end, span[1])
        if start < end:
            shift = start - mapping.start if mapping.inode else 0
            yield replace(mapping, start=start, end=end, offset=mapping.offset + shift)
            done = end
