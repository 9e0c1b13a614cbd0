# SPDX-License-Identifier: Apache-2.0
"""``make demo``: a Python job is checkpointed every second, killed, and goes on where it was; then from further back.

Everything happens in a temporary directory, with the commands that a user would type.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from output_file import Line, OutputFile
from rich.console import Console

from icecore.cli.fields import Row, number, records, text, texts
from icecore.storage.records import RegularFile
from icecore.storage.store import Store
from icecore.varlink.client import Client

BIN = Path(sys.executable).parent
NAME = "bank"
CHECKPOINTS = 9
"""Taken before the first kill."""
OLDER = 3
"""The checkpoint that the job goes back to in the end."""
LINES_TO_LOSE = 8
"""Written after the newest checkpoint and before the kill."""
LINES_AFTER_RESTORE = 60
PATIENCE_SECONDS = 60.0

console = Console(highlight=False, soft_wrap=True)


def say(text: str = "") -> None:
    console.print(text)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Polls; a demo that hangs is worse than one that fails."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"demo: gave up waiting for {what}")
        time.sleep(0.05)


@dataclass
class Demo:
    """One run of the demo; ``stack`` ends whatever still runs."""

    directory: Path
    stack: ExitStack
    pauses: list[int] = field(default_factory=list[int])
    deltas: list[int] = field(default_factory=list[int])

    @property
    def store(self) -> Path:
        return self.directory / "store"

    @property
    def socket(self) -> Path:
        return self.directory / "icecore.sock"

    def environment(self) -> dict[str, str]:
        return {**os.environ, "ICECORE_STORE": str(self.store), "ICECORE_SOCKET": str(self.socket)}

    def start(self, *command: str | Path) -> "subprocess.Popen[bytes]":
        """A program in the background, its words kept in the directory; ended at the end: by SIGTERM, which `icecore
        restore` passes on to the job that it has brought back."""
        words = self.stack.enter_context((self.directory / "log").open("ab"))
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=words, stderr=words, env=self.environment()
        )
        self.stack.callback(process.wait)
        self.stack.callback(process.terminate)
        return process

    def command(self, *arguments: str) -> None:
        """An icecore command, shown and run to its end."""
        say(f"[bold]$ icecore {' '.join(arguments)}[/]")
        result = subprocess.run([BIN / "icecore", *arguments], env=self.environment(), check=False)
        if result.returncode:
            raise SystemExit(f"demo: icecore {arguments[0]} failed with status {result.returncode}")

    def start_daemon(self) -> None:
        say("[bold]$ icecored &[/]")
        self.start(BIN / "icecored", "--store", self.store, "--socket", self.socket)
        wait_until(self.socket.is_socket, "the daemon's socket")

    def start_job(self) -> "tuple[subprocess.Popen[bytes], OutputFile]":
        output = OutputFile(self.directory / "output.txt")
        say("[bold]$ python job.py output.txt &[/]")
        job = self.start(sys.executable, Path(__file__).with_name("job.py"), output.path)
        wait_until(lambda: job.poll() is None and output.count(job.pid) >= 20, "the job")
        say(f"process {job.pid}: {output.resident(job.pid)}; its output grows by 20 lines a second, the latest:")
        say(f"    {output.latest(job.pid)}")
        return job, output

    def watch(self) -> None:
        """One line for each checkpoint, as it is taken."""
        say(
            f"    {'checkpoint':12}{'kind':10}{'pause':>10}{'dirty pages':>14}{'written':>12}   live, as they are taken"
        )
        seen = 0
        with Client(self.socket) as daemon:

            def all_there() -> bool:
                nonlocal seen
                for layer in self.layers(daemon)[seen:CHECKPOINTS]:
                    self.show(layer)
                    seen += 1
                return seen == CHECKPOINTS

            wait_until(all_there, f"{CHECKPOINTS} checkpoints")

    def layers(self, daemon: Client) -> list[Row]:
        if NAME not in texts(daemon.call("List"), "chains"):
            return []
        return records(daemon.call("Show", name=NAME), "checkpoints")

    def show(self, layer: Row) -> None:
        pause, written = number(layer, "pause_us"), number(layer, "bytes_written")
        self.pauses.append(pause)
        if text(layer, "kind") == "delta":
            self.deltas.append(written)
        name, kind, dirty = f"{NAME}@{text(layer, 'id')}", text(layer, "kind"), text(layer, "pages_dirty")
        say(f"    {name:12}{kind:10}{pause / 1000:>7.2f} ms{dirty:>14}{written / (1 << 20):>8.1f} MiB")

    def number_at(self, checkpoint: int | None, output: OutputFile) -> tuple[int, int]:
        """(id, number of the job's last line) of a checkpoint: where its output file stood."""
        with Store.open(self.store).chain(NAME).reader(checkpoint) as reader:
            for file in reader.process.files:
                match file.description:
                    case RegularFile(path=path, offset=offset) if path == str(output.path):
                        return reader.info.id, output.lines_in(offset)
                    case _:
                        pass
        raise SystemExit("demo: the checkpoint does not hold the output file")

    def kill(self, process: "subprocess.Popen[bytes]", pid: int, output: OutputFile) -> list[Line]:
        """SIGKILL: no chance to save anything. The lines that it had written."""
        written = output.count(pid)
        os.kill(pid, signal.SIGKILL)
        process.wait()
        lines = output.lines(written)
        say(f"[bold]$ kill -9 {pid}[/]\nkilled at number {lines[-1].number}")
        return lines

    def restore(
        self, pid: int, checkpoint: int | None, before: list[Line], output: OutputFile
    ) -> "subprocess.Popen[bytes]":
        """Brings the job back, and checks what it writes from then on."""
        taken, stood_at = self.number_at(checkpoint, output)
        what = NAME if checkpoint is None else f"{NAME}@{checkpoint}"
        say(f"[bold]$ icecore restore {what} &[/]")
        started = time.time()
        restored = self.start(BIN / "icecore", "restore", what)
        wait_until(lambda: restored.poll() is not None or output.count(pid) > stood_at, "the restored job")
        if restored.poll() is not None:
            raise SystemExit(f"demo: the restore failed:\n{(self.directory / 'log').read_text()}")
        wait_until(lambda: output.count(pid) >= max(stood_at + LINES_AFTER_RESTORE, len(before)), "more lines")
        lines = output.lines(output.count(pid))
        first = next(line for line in lines if line.when.timestamp() >= started)
        say(f"{NAME}@{taken} was taken at number {stood_at}; process {pid} is back and went on:")
        for line in lines[stood_at - 2 : stood_at + 2]:
            origin = "written before the kill" if line.number <= stood_at else "written after the restore"
            say(f"    {line}   {origin}")
        again = output.compare(lines, before, stood_at, first)
        say(
            f"output file: {len(lines)} lines, every number once; {again} of them computed twice, "
            f"each time with the same digest"
        )
        return restored

    def play(self) -> None:
        began = time.monotonic()
        console.rule("A job without any checkpoint code", align="left")
        job, output = self.start_job()
        pid = job.pid
        console.rule("Checkpoint it every second, while it runs", align="left")
        self.start_daemon()
        self.command("track", str(pid), "--name", NAME, "--interval", "1s")
        self.watch()
        console.rule("Kill it, and bring it back", align="left")
        _, newest = self.number_at(None, output)
        wait_until(lambda: output.count(pid) >= newest + LINES_TO_LOSE, "some work that no checkpoint has")
        before = self.kill(job, pid, output)
        restored = self.restore(pid, None, before, output)
        console.rule("Any checkpoint will do: go further back", align="left")
        before = self.kill(restored, pid, output)
        self.restore(pid, OLDER, before, output)
        console.rule("In short", align="left")
        self.summary(pid, output, time.monotonic() - began)

    def summary(self, pid: int, output: OutputFile, seconds: float) -> None:
        pause = sorted(self.pauses)[len(self.pauses) // 2] / 1000
        delta = sorted(self.deltas)[len(self.deltas) // 2] / (1 << 20)
        say(
            f"A Python process of {output.resident(pid)} was checkpointed every second while it worked.\n"
            f"Each checkpoint stopped it for {pause:.1f} ms (median) and added {delta:.1f} MiB to the store. It was\n"
            f"killed with SIGKILL twice, and twice it went on from a checkpoint: same pid, threads and objects,\n"
            f"same place in its output file, as if nothing had happened. The program knows nothing of all this.\n\n"
            f"To protect a job of your own:  icecore run --name myjob -- python myjob.py\n"
            f"({seconds:.0f} s; nothing is left behind)"
        )


def main() -> int:
    if os.geteuid() != 0:
        print("demo: restoring a process under its old pid takes root: sudo make demo", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="icecore-demo-") as directory, ExitStack() as stack:
        Demo(Path(directory), stack).play()
    return 0


if __name__ == "__main__":
    sys.exit(main())
