# SPDX-License-Identifier: Apache-2.0
"""A list of system calls to be made in the target, each with its slot in the data area; answers come by slot."""

from dataclasses import dataclass, field

from icecore.errors import KernelLacks
from icecore.inject import Call, Data, Table, TableResult


@dataclass(slots=True)
class Questions:
    """Calls to be put to a thread in one go. ``ask`` returns a ticket, ``Answers`` takes it."""

    calls: list[Call] = field(default_factory=list[Call])
    names: list[str] = field(default_factory=list[str])
    slots: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    room: int = 0

    def ask(self, name: str, number: int, *arguments: int | None, size: int = 0) -> int:
        """A call; where an argument is None it gets the address of ``size`` bytes of its own to fill."""
        words = tuple(Data(self.room) if word is None else word for word in arguments)
        self.calls.append(Call(number, words))
        self.names.append(name)
        self.slots.append((self.room, size))
        self.room += -(-size // 8) * 8
        return len(self.calls) - 1

    def table(self) -> Table:
        """The calls, laid out."""
        return Table(self.calls, bytes(self.room))


@dataclass(frozen=True, slots=True)
class Answers:
    """What the calls gave."""

    questions: Questions
    result: TableResult

    def value(self, ticket: int) -> int:
        """The result of a call, not negative. KernelLacks if the kernel does not know it."""
        found = self.result.values[ticket]
        if found < 0:
            raise KernelLacks(f"{self.questions.names[ticket]} failed with errno {-found} in the target")
        return found

    def data(self, ticket: int) -> bytes:
        """The bytes that the call filled in."""
        self.value(ticket)
        offset, size = self.questions.slots[ticket]
        return self.result.data[offset : offset + size]
