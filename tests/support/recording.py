# SPDX-License-Identifier: Apache-2.0
"""Record a victim as a chain of checkpoints, then restore every link of it.

A checkpoint holds the process, not its files: so each link keeps a copy of the victim's directory and puts it back,
into the same inodes, before the restore.
"""

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from support.compare import assert_same, assert_same_areas, stable_part
from support.memory import take_snapshot
from support.victim import Victim

from icecore.daemon.engine import Checkpointer
from icecore.daemon.report import Report
from icecore.daemon.target import Target
from icecore.storage.store import Store


@dataclass(frozen=True, slots=True)
class Link:
    """One checkpoint and what belongs to it."""

    report: Report
    answer: str
    """What the victim said of itself just before."""
    files: Path | None


class Recording:
    """A victim, its chain, and the links recorded so far."""

    def __init__(self, victim: Victim, store: Path, files: Path | None = None, tracker: str = "auto") -> None:
        self.victim = victim
        self.files = files
        self.links: list[Link] = []
        self._copies = store.with_name(store.name + "-files")
        self.chain = Store.open(store, create=True).create_chain("victim")
        self.target = Target.open(victim.pid)
        self.checkpointer = Checkpointer.open(self.target, self.chain, tracker)

    def checkpoint(self, answer: str = "", *, kill: bool = False) -> Report:
        """One more link, of a victim that may be running."""
        report = self.checkpointer.checkpoint(kill=kill)
        self.links.append(Link(report, answer, self._copy_files(report.id)))
        return report

    def checkpoint_and_compare(self, answer: str = "") -> Report:
        """One more link, of a victim that is parked: every page and mapping is compared with an independent reading."""
        before = take_snapshot(self.victim.pid)
        report = self.checkpoint(answer)
        still = stable_part(before, take_snapshot(self.victim.pid))
        assert len(still.pages) >= 0.9 * len(before.pages), "the victim was not parked"
        with self.chain.reader(report.id) as reader:
            assert_same(still, reader)
            assert_same_areas(still, reader)
        return report

    def _copy_files(self, number: int) -> Path | None:
        if self.files is None:
            return None
        copy = self._copies / str(number)
        shutil.copytree(self.files, copy)
        return copy

    def put_files_back(self, link: Link) -> None:
        """The content of the victim's files as of that link, in the files that are there."""
        if self.files is None or link.files is None:
            return
        for copy in link.files.iterdir():
            path, stat = self.files / copy.name, copy.stat()
            path.write_bytes(copy.read_bytes())
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # a changed file that is mapped is refused
        for path in self.files.iterdir():
            if not (link.files / path.name).exists():
                path.unlink()

    @contextmanager
    def restored(self, link: Link) -> Generator[Victim]:
        """The victim as it was at that link. The one before must be gone: it has the pid."""
        self.put_files_back(link)
        with self.chain.reader(link.report.id) as reader, Victim.restored_from(reader) as victim:
            assert victim.pid == self.victim.pid
            yield victim

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.checkpointer.close()
        self.target.close()

    @contextmanager
    def again(self, victim: Victim) -> Generator[None]:
        """Go on with the same chain and a restored victim."""
        with Target.open(victim.pid) as self.target, Checkpointer.open(self.target, self.chain) as self.checkpointer:
            yield
