# SPDX-License-Identifier: Apache-2.0
"""One command in a guest: its output is streamed, its status returned, and the host cannot be written to."""

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from vm import cache, session
from vm.kernels import HarnessError, Kernel, cache_directory

SOCKET_SECONDS = 20.0
PROCESSOR = "max,-erms,-fsrm"
"""Everything that can be emulated but "rep movsb is fast", which makes kernel and libc copy byte by byte: it is not,
here (reading 8 MiB of /proc/self/mem takes 37 ms with, 15 ms without)."""
DIE_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
# $0 gets / without what is mounted below it (the host's /proc is none of the guest's business), but for the arguments
# before "--"; those after it are then run.
BIND_ROOT = """
mount --bind / "$0"
while [ "$1" != -- ]; do mount --bind "$1" "$0$1"; shift; done
shift
exec "$@"
"""


def run(
    kernel: Kernel,
    command: Sequence[str],
    *,
    output: Callable[[bytes], object],
    timeout: float,
    memory_mib: int = 3072,
    cpus: int = 1,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Boot, run the command in this directory with this PATH, power off; returns the command's exit status.

    HarnessError: no such download, no boot, or no status within ``timeout`` seconds. Time-outs of what runs inside
    must allow for 15 to 20 times less speed than here.
    """
    if os.geteuid() != 0:
        raise HarnessError("only root can show this machine's files to a guest: run this as root")
    tools, booted = cache.tools(), cache.bootable(kernel)
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="icecore-vm-", dir=cache_directory())))
        (work / "out").mkdir()
        (work / "out/session").write_text(
            session.script(
                command, Path.cwd(), modules=booted.modules, busybox=tools.busybox, environment=environment or {}
            )
        )
        _serve_files(stack, tools, work)
        arguments = [*tools.command("bin/qemu-system-x86_64"), *_hardware(tools, work, memory_mib, cpus),
                     "-kernel", str(booted.image), "-initrd", str(booted.initramfs),
                     "-append", "console=ttyS0 quiet panic=-1"]  # fmt: skip
        _stream(stack, arguments, output, time.monotonic() + timeout)
        return _status(work, timeout)


def _serve_files(stack: ExitStack, tools: cache.Tools, work: Path) -> None:
    """Start one virtiofsd for this machine's files, read-only, and one for the directory of results."""
    daemon = tools.command("libexec/virtiofsd")
    root = work / "root"
    root.mkdir()
    in_namespace = ["unshare", "--mount", "sh", "-ec", BIND_ROOT, str(root), *_mounts_of(Path.cwd(), tools.root), "--"]
    for name, prefix, words in (
        ("root", in_namespace, "--cache always --readonly --announce-submounts"),
        ("out", [], "--cache never"),
    ):
        place = ["--shared-dir", str(work / name), "--socket-path", str(work / f"{name}.socket")]
        _start_daemon(stack, [*prefix, *daemon, *place, "--sandbox", "chroot", *words.split()], work, name)


def _mounts_of(*needed: Path) -> list[str]:
    """The mount points, other than /, that hold what the guest needs."""
    found: set[str] = set()
    for path in needed:
        place = path.resolve()
        while not place.is_mount():
            place = place.parent
        if place != Path("/"):
            found.add(str(place))
    return sorted(found)


def _start_daemon(stack: ExitStack, command: Sequence[str], work: Path, name: str) -> None:
    log = stack.enter_context((work / f"{name}.log").open("wb"))
    process = subprocess.Popen([*DIE_WITH_US, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    stack.callback(_end, process)
    deadline = time.monotonic() + SOCKET_SECONDS
    while not (work / f"{name}.socket").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise HarnessError(f"virtiofsd does not start: {_tail(work / f'{name}.log')}")
        select.select([], [], [], 0.02)


def _hardware(tools: cache.Tools, work: Path, memory_mib: int, cpus: int) -> list[str]:
    memory = f"memory-backend-memfd,id=memory,size={memory_mib}M,share=on"
    words = [
        f"-M q35 -accel tcg,thread=multi -cpu {PROCESSOR} -smp {cpus} -m {memory_mib}",
        f"-nodefaults -no-user-config -display none -no-reboot -object {memory} -numa node,memdev=memory",
        "-device virtio-rng-pci -device virtio-serial-pci -chardev file,id=output,path=/dev/fdset/1,append=on",
        "-device virtserialport,chardev=output,nr=1,name=output",
    ]
    files = [("hostroot", work / "root.socket"), ("vmout", work / "out.socket")]
    options = [word for line in words for word in line.split()]
    for tag, path in files:
        options += ["-chardev", f"socket,id={tag},path={path}", "-device", f"vhost-user-fs-pci,chardev={tag},tag={tag}"]
    firmware = [word for name in ("qemu", "seabios") for word in ("-L", str(tools.share / name))]
    return [*options, *firmware, "-serial", f"file:{work / 'console.log'}"]


def _stream(stack: ExitStack, arguments: list[str], output: Callable[[bytes], object], deadline: float) -> None:
    """Run QEMU to its end. What the guest writes comes through a pipe: QEMU wants a descriptor it may only write to."""
    reader, writer = os.pipe()
    stack.callback(os.close, reader)
    try:
        qemu = subprocess.Popen(
            [*DIE_WITH_US, *arguments, "-add-fd", f"fd={writer},set=1"], pass_fds=(writer,), stdin=subprocess.DEVNULL
        )
    finally:
        os.close(writer)
    stack.callback(_end, qemu)
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        data = os.read(reader, 65536)
        if not data:
            return
        output(data)


def _status(work: Path, timeout: float) -> int:
    status = work / "out/status"
    if not status.exists():
        console = _tail(work / "console.log")
        raise HarnessError(f"the guest did not report within {timeout:.0f} s; its console: {console}")
    return int(status.read_text())


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-2000:].strip() if path.exists() else "(nothing)"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
