# SPDX-License-Identifier: Apache-2.0
"""``icecore restore``."""

import argparse
import os
import stat
from dataclasses import asdict
from typing import TYPE_CHECKING, ClassVar

from icecore.cli import options, output
from icecore.cli.child import Child
from icecore.cli.inbox import Inbox, exit_status
from icecore.cli.options import Common, add_ranges, reference
from icecore.errors import UsageError

if TYPE_CHECKING:
    from icecore.storage.reader import CheckpointReader


class Restore:
    """Bring a process back from a checkpoint.

    It gets its old pid, and our standard streams where it had a terminal or another program at the end of its own.
    Without --detach we stay: signals are passed on, and our exit status is that of the process.

    With --into PID --ranges only memory is written, into a process that runs: that of the ranges that the checkpoint
    holds, or of some of them (--range). The process is stopped meanwhile, and must have the same mappings there.
    """

    name: ClassVar[str] = "restore"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("checkpoint", type=reference, metavar="NAME[@ID]", help="the newest if no id is given")
        parser.add_argument(
            "--detach", action="store_true",
            help="print the pid and leave; terminals and pipes among our streams are replaced by /dev/null",
        )  # fmt: skip
        parser.add_argument("--into", type=options.pid, metavar="PID", help="a running process; with --ranges")
        parser.add_argument("--ranges", action="store_true", dest="memory_only", help="write memory only, into PID")
        add_ranges(parser, "of that memory, only this")

    def run(self, arguments: argparse.Namespace, common: Common) -> int:
        from icecore.storage.store import Store

        _refuse_half_measures(arguments)
        name, wanted = arguments.checkpoint
        with Store.open(common.store).chain(name).reader(wanted) as reader:
            about: dict[str, object] = {"name": name, "id": reader.info.id}
            if arguments.into is not None:
                return _into(reader, about, arguments, common)
            if not arguments.detach:
                return _in_foreground(reader, about, common)
            about["pid"] = _detached(reader)
        if common.json:
            output.document(about)
        else:
            print(about["pid"])
        return 0


def _refuse_half_measures(arguments: argparse.Namespace) -> None:
    if arguments.into is None and (arguments.memory_only or arguments.ranges):
        raise UsageError("no process was named whose memory is to be written", "add --into PID")
    if arguments.into is not None and not arguments.memory_only:
        raise UsageError("a whole process cannot be restored into another one", "add --ranges: memory only")
    if arguments.into is not None and arguments.detach:
        raise UsageError("--detach has no meaning with --into: nothing is started", "leave it out")


def _into(reader: "CheckpointReader", about: dict[str, object], arguments: argparse.Namespace, common: Common) -> int:
    from icecore.restore.into import restore_into

    written = restore_into(reader, arguments.into, tuple(arguments.ranges))
    if common.json:
        output.document({**about, **asdict(written)})
    else:
        paused = output.milliseconds(written.pause_us)
        checkpoint = f"{about['name']}@{about['id']}"
        print(f"{checkpoint} is in process {written.pid}: {written.pages} pages differed, paused {paused}")
    return 0


def _in_foreground(reader: "CheckpointReader", about: dict[str, object], common: Common) -> int:
    """Stays as long as the process does. No signal is lost: those that come during the restore are passed on after."""
    from icecore.restore import restore

    with Inbox() as inbox:
        restored = restore(reader, stdio=(0, 1, 2))
        reader.close()
        output.note(f"restored {about['name']}@{about['id']} as process {restored.pid}")
        status = attend(Child(restored.pid, restored.pidfd), inbox)
    if common.json:
        output.document({**about, "pid": restored.pid, "status": status})
    return status


def _detached(reader: "CheckpointReader") -> int:
    from icecore.restore import restore

    null = os.open(os.devnull, os.O_RDWR)
    first, second, third = (null if ends_with_us(fd) else fd for fd in (0, 1, 2))
    try:
        return restore(reader, stdio=(first, second, third), detach_session=True).pid
    finally:
        os.close(null)


def ends_with_us(fd: int) -> bool:
    """A terminal, or a pipe that somebody reads to its end: what a process that outlives us should not hold."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return True
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd)


def attend(child: Child, inbox: Inbox) -> int:
    """Passes signals on until the process ends; its exit status."""
    inbox.watch(child.pidfd)
    while not child.has_ended():
        for number in inbox.wait():
            child.send(number)
    return exit_status(child.reap())
