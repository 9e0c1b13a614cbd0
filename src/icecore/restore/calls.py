# SPDX-License-Identifier: Apache-2.0
"""A list of system calls to be made inside the process being restored, each with the words for its failure."""

from collections.abc import Iterator
from dataclasses import dataclass

from icecore.restore.runner import DATA_SIZE, ENTRY, TABLE_ENTRIES

Argument = int | bytes
"""A number, or data whose address is passed."""

_ALIGN = 16
_U64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Call:
    """One system call."""

    what: str
    """What it does, as it would stand in "cannot ...": "open /etc/passwd (fd 3)"."""
    number: int
    arguments: tuple[Argument, ...]
    expect: int | None = None
    """The only result that is right: the fd number that must come out, the bytes written."""
    tolerate: tuple[int, ...] = ()
    """errno values that do no harm."""


class Calls:
    """The list, in the order of execution."""

    def __init__(self) -> None:
        self._calls: list[Call] = []

    def add(
        self, what: str, number: int, *arguments: Argument, expect: int | None = None, tolerate: tuple[int, ...] = ()
    ) -> None:
        """Append a call."""
        self._calls.append(Call(what, number, arguments, expect, tolerate))

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[Call]:
        return iter(self._calls)


@dataclass(frozen=True, slots=True)
class Table:
    """As many calls as fit, packed."""

    calls: tuple[Call, ...]
    entries: bytes
    data: bytes


def tables(calls: list[Call], data_address: int) -> Iterator[Table]:
    """Cut a list of calls into tables; data begins at ``data_address`` in each."""
    batch: list[Call] = []
    entries, data = bytearray(), bytearray()
    for call in calls:
        size = sum(len(a) + _ALIGN for a in call.arguments if isinstance(a, bytes))
        assert size <= DATA_SIZE, call.what
        if len(batch) == TABLE_ENTRIES or len(data) + size > DATA_SIZE:
            yield Table(tuple(batch), bytes(entries), bytes(data))
            batch, entries, data = [], bytearray(), bytearray()
        batch.append(call)
        entries += _pack(call, data, data_address)
    if batch:
        yield Table(tuple(batch), bytes(entries), bytes(data))


def _pack(call: Call, data: bytearray, data_address: int) -> bytes:
    words = [call.number, 0, 0, 0, 0, 0, 0, 0]
    for n, argument in enumerate(call.arguments, 1):
        if isinstance(argument, bytes):
            words[n] = data_address + len(data)
            data += argument + bytes(-len(argument) % _ALIGN)
        else:
            words[n] = argument & _U64
    return ENTRY.pack(*words)
