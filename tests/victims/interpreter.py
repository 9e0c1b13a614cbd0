# SPDX-License-Identifier: Apache-2.0
"""CPython at work: threads, a large dict, an sqlite3 file and one in memory, an output file, numbers that go up.

    interpreter.py DIR    (an empty directory to work in)
    step N -> "ok STEPS"   check -> "ok STEPS COUNT"   park -> "parked" (until the next command)   quit -> status 7

The threads go on between commands; the files change only in a step, so a copy of DIR belongs to each checkpoint.
"""

import hashlib
import os
import sqlite3
import sys
import threading

ENTRIES = 60_000
THREADS = 3


class Job:
    """The state whose parts must agree at every moment at which the lock is free."""

    def __init__(self, directory: str) -> None:
        self.lock = threading.Lock()
        self.running = threading.Event()
        self.parked = threading.Semaphore(0)
        self.stop = False
        self.table: dict[int, list[int]] = {key: [key, 0] for key in range(ENTRIES)}
        self.count = 0
        self.steps = 0
        self.digest = hashlib.sha256()
        self.own_counts = [0] * THREADS
        self.on_disk = sqlite3.connect(os.path.join(directory, "job.sqlite"), check_same_thread=False)
        self.in_memory = sqlite3.connect(":memory:", check_same_thread=False)
        self.output = open(os.path.join(directory, "output.txt"), "w", encoding="ascii")  # noqa: SIM115 - stays open
        for database in (self.on_disk, self.in_memory):
            database.execute("CREATE TABLE step (number INTEGER PRIMARY KEY, square INTEGER, text TEXT)")
            database.commit()

    def work(self, number: int) -> None:
        """One thread: counts in the dict; every addition is also one in ``count``."""
        local = threading.local()
        local.count = 0
        position = number
        while not self.stop:
            if not self.running.is_set():
                self.parked.release()
                self.running.wait()
            for _ in range(200):
                position = (position * 1103515245 + 12345) % 2**31
                with self.lock:
                    self.table[position % ENTRIES][1] += 1
                    self.count += 1
                    self.own_counts[number] += 1
                local.count += 1
            if local.count != self.own_counts[number]:
                raise AssertionError(f"thread {number}: {local.count} and {self.own_counts[number]}")

    def step(self) -> None:
        """One more row in both databases, one more line in the file."""
        self.steps += 1
        text = f"row {self.steps}"
        for database in (self.on_disk, self.in_memory):
            database.execute("INSERT INTO step VALUES (?, ?, ?)", (self.steps, self.steps**2, text))
            database.commit()
        self.digest.update(text.encode())
        self.output.write(text + "\n")
        self.output.flush()

    def check(self) -> None:
        """Everything agrees with everything else."""
        with self.lock:
            assert sum(pair[1] for pair in self.table.values()) == self.count == sum(self.own_counts)
            assert all(key == pair[0] for key, pair in self.table.items())
        rows = [(number, number**2, f"row {number}") for number in range(1, self.steps + 1)]
        for database in (self.on_disk, self.in_memory):
            assert database.execute("SELECT * FROM step ORDER BY number").fetchall() == rows, database
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        digest = hashlib.sha256(b"".join(row[2].encode() for row in rows))
        assert digest.digest() == self.digest.digest()
        lines = "".join(row[2] + "\n" for row in rows)
        assert self.output.tell() == len(lines)
        with open(self.output.name, encoding="ascii") as written:
            assert written.read() == lines


def park(job: Job, threads: list[threading.Thread]) -> None:
    """All threads wait when this returns."""
    job.running.clear()
    for _ in threads:
        job.parked.acquire()


def obey(job: Job, command: str, threads: list[threading.Thread]) -> str:
    """Carry out one command; returns the answer."""
    if command == "park":
        park(job, threads)
        return "parked"
    job.running.set()
    for _ in range(int(command.removeprefix("step ")) if command.startswith("step ") else 0):
        job.step()
    if command != "check":
        return f"ok {job.steps}"
    job.check()
    return f"ok {job.steps} {job.count}"


def main() -> int:
    """Talk until the end of the input."""
    job = Job(sys.argv[1])
    threads = [threading.Thread(target=job.work, args=(number,), daemon=True) for number in range(THREADS)]
    job.running.set()
    for thread in threads:
        thread.start()
    print("ready", os.getpid(), flush=True)
    while (command := sys.stdin.readline().rstrip("\n")) not in ("", "quit"):
        print(obey(job, command, threads), flush=True)
    job.stop = True
    job.running.set()
    for thread in threads:
        thread.join()
    print("bye", flush=True)
    return 7


if __name__ == "__main__":
    sys.exit(main())
