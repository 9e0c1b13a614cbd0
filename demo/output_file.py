# SPDX-License-Identifier: Apache-2.0
"""The job's output file, as somebody who watches sees it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the job."""

    number: int
    digest: str
    when: datetime

    @classmethod
    def parse(cls, text: str) -> "Line":
        number, digest, when = text.split()
        return cls(int(number), digest, datetime.fromisoformat(when))

    def __str__(self) -> str:
        return f"number {self.number:5}  digest {self.digest}  {self.when:%H:%M:%S.%f}"[:-3]


class OutputFile:
    """Lines of one length. How many the process has written is known by the offset of its descriptor."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def width(self) -> int:
        with self.path.open("rb") as file:
            return len(file.readline())

    def lines_in(self, size: int) -> int:
        return size // self.width() if size else 0

    def count(self, pid: int) -> int:
        """Lines written by the process; 0 while it does not have the file open."""
        try:
            for fd in Path(f"/proc/{pid}/fd").iterdir():
                if fd.readlink() == self.path:
                    info = Path(f"/proc/{pid}/fdinfo/{fd.name}").read_text().split()
                    return self.lines_in(int(info[info.index("pos:") + 1]))
        except OSError:
            return 0
        return 0

    def lines(self, count: int) -> list[Line]:
        """The first ``count`` lines, which must be numbered 1, 2, 3..."""
        lines = [Line.parse(text) for text in self.path.read_text().splitlines()[:count]]
        if [line.number for line in lines] != list(range(1, count + 1)):
            raise SystemExit("demo: the output file is not consistent: a number is missing, or there twice")
        return lines

    def latest(self, pid: int) -> Line:
        return self.lines(self.count(pid))[-1]

    def resident(self, pid: int) -> str:
        """Threads and memory of the process."""
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return f"{status['Threads'].strip()} threads and {int(status['VmRSS'].split()[0]) // 1024} MiB"

    @staticmethod
    def compare(after: Sequence[Line], before: Sequence[Line], stood_at: int, first: Line) -> int:
        """The job went on exactly after line ``stood_at``, and what it computed twice is the same: how many lines."""
        if first.number != stood_at + 1:
            raise SystemExit(f"demo: the job went on from number {first.number}, not from {stood_at + 1}")
        twice = list(zip(after, before, strict=False))[stood_at:]
        for now, then in twice:
            if now.digest != then.digest:
                raise SystemExit(f"demo: line {now.number} differs from what the job had computed before")
        return len(twice)
