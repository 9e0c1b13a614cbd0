# SPDX-License-Identifier: Apache-2.0
"""The job of the demo: an ordinary Python program that knows nothing of checkpoints.

A bank with 900,000 accounts in memory (about 300 MiB of live objects). Twenty times a second three threads move
money between accounts, and a line goes to the output file: its number, a digest of everything that has happened so
far, and the time of day. Given the number, the digest is always the same: a run that loses or repeats anything differs.
"""

import sys
import threading
import time
import zlib
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random
from typing import TextIO

ACCOUNTS = 900_000
WORKERS = 3
TRANSFERS = 25
"""Of each worker for each line."""
OPENING_BALANCE = 1_000
LINES_PER_SECOND = 20
LINES_PER_AUDIT = 100


@dataclass
class Account:
    """A customer's."""

    owner: str
    balance: int = OPENING_BALANCE
    history: list[int] = field(default_factory=list[int])
    """The amounts that came in lately."""


class Worker:
    """One thread and the accounts that only it touches."""

    def __init__(self, number: int, barrier: threading.Barrier) -> None:
        self.random = Random(number)
        self.barrier = barrier
        self.digest = 0
        self.accounts = [Account(f"customer {number}-{index}", history=[index]) for index in range(ACCOUNTS // WORKERS)]
        self.thread = threading.Thread(target=self.work, daemon=True, name=f"worker-{number}")

    def work(self) -> None:
        """Moves money whenever the main thread opens the next round."""
        while True:
            self.barrier.wait()
            for _ in range(TRANSFERS):
                self.transfer()
            self.barrier.wait()

    def transfer(self) -> None:
        giver, taker = self.random.choices(self.accounts, k=2)
        amount = self.random.randrange(100)
        giver.balance -= amount
        taker.balance += amount
        taker.history = [*taker.history[-3:], amount]
        self.digest = zlib.crc32(f"{giver.owner} {taker.owner} {amount}".encode(), self.digest)

    def money(self) -> int:
        return sum(account.balance for account in self.accounts)


def line(number: int, workers: list[Worker]) -> str:
    """All lines have the same length: a line that is written again takes the place of the earlier one."""
    digest = 0
    for worker in workers:
        digest = zlib.crc32(worker.digest.to_bytes(4, "little"), digest)
    now = datetime.now().astimezone().isoformat(timespec="milliseconds")
    return f"{number:08d} {digest:08x} {now}\n"


def audit(workers: list[Worker]) -> None:
    """No money is made, none is lost: over all objects."""
    if sum(worker.money() for worker in workers) != OPENING_BALANCE * (ACCOUNTS // WORKERS) * WORKERS:
        raise SystemExit("the books do not balance")


def run(output: TextIO) -> None:
    barrier = threading.Barrier(WORKERS + 1)
    workers = [Worker(number, barrier) for number in range(WORKERS)]
    for worker in workers:
        worker.thread.start()
    number = 0
    while True:
        number += 1
        barrier.wait()
        barrier.wait()
        output.write(line(number, workers))
        output.flush()
        if number % LINES_PER_AUDIT == 0:
            audit(workers)
        time.sleep(1 / LINES_PER_SECOND)


if __name__ == "__main__":
    with Path(sys.argv[1]).open("w") as file:
        run(file)
