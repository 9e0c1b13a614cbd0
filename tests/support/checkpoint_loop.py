# SPDX-License-Identifier: Apache-2.0
"""A process that checkpoints a victim without end, to be killed in the middle of it.

    checkpoint_loop.py STORE CHAIN PID

Each line ``go`` on its standard input forks a checkpointer, with everything already imported; it writes ``child PID``,
then the name of every phase it enters, until it is killed; then the parent writes ``dead STATUS``.
"""

import os
import sys
from pathlib import Path

from icecore.daemon.engine import Checkpointer
from icecore.daemon.report import Progress
from icecore.daemon.target import Target
from icecore.storage.store import Store


def say(line: str) -> None:
    """One line, at once."""
    os.write(1, line.encode() + b"\n")


def checkpoint_for_ever(store: Path, name: str, pid: int) -> None:
    """Checkpoint after checkpoint; each phase is told when it begins."""
    chain = Store.open(store).chain(name)
    said = ""

    def listen(progress: Progress) -> None:
        nonlocal said
        if progress.phase != said:
            said = progress.phase
            say(said)

    with Target.open(pid) as target, Checkpointer.open(target, chain) as checkpointer:
        while True:
            checkpointer.checkpoint(progress=listen)


def main() -> None:
    """Fork a checkpointer for each ``go``."""
    store, name, pid = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    say("ready")
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            say(f"child {os.getpid()}")
            checkpoint_for_ever(store, name, pid)
        _, status = os.waitpid(child, 0)
        say(f"dead {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
