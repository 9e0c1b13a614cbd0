# SPDX-License-Identifier: Apache-2.0
"""Pipes at awkward fd numbers, with one end only, opened twice, full, sharing a description or not."""

import os
import sys
from pathlib import Path

from support.moment import Moment, moment_of

PROGRAM = """
import fcntl, os, sys

def at(fd, wanted, cloexec=False):
    os.dup2(fd, wanted, inheritable=not cloexec)
    os.close(fd)

r, w = os.pipe()
at(r, 41), at(w, 40)                      # the writer below the reader
os.write(40, b"a" * 1000)
r, w = os.pipe()
at(r, 50), os.write(w, b"left behind"), os.close(w)   # the writer is gone
r, w = os.pipe()
at(r, 60), at(w, 61, cloexec=True)
fcntl.fcntl(61, fcntl.F_SETPIPE_SZ, 1 << 20)
os.write(61, bytes(range(256)) * 4096)    # full
os.dup2(60, 62)                           # shares the description
extra = os.open("/proc/self/fd/60", os.O_RDONLY | os.O_NONBLOCK)
at(extra, 63)                             # one of its own
for fd in range(3, 40):                   # no low number is free
    try:
        os.fstat(fd)
    except OSError:
        at(os.open("/dev/null", os.O_RDONLY), fd) if fd % 2 else None
print("ready", os.getpid(), flush=True)

def check():
    assert os.read(41, 5000) == b"a" * 1000
    os.write(40, b"a" * 1000)
    assert fcntl.fcntl(61, fcntl.F_GETPIPE_SZ) == 1 << 20
    assert not os.get_inheritable(61) and os.get_inheritable(60)
    assert not os.get_blocking(63) and os.get_blocking(60) and os.get_blocking(62)

def drain():
    assert os.read(50, 100) == b"left behind" and os.read(50, 100) == b""
    got = b""
    while len(got) < 1 << 20:
        got += os.read((60, 62, 63)[len(got) % 3], 65537)
    assert got == bytes(range(256)) * 4096
    os.close(61)
    assert os.read(63, 1) == b""

for line in sys.stdin:
    if line == "quit\\n":
        break
    check()
    if line == "drain\\n":
        drain()
    print("ok 1", flush=True)
sys.exit(7)
"""


def pipes() -> Moment:
    return moment_of([os.path.realpath(sys.executable), "-IS", "-c", PROGRAM])


def test_pipes_come_back() -> None:
    moment = pipes()
    with moment.restored() as again:
        fds = {fd for file in moment.snapshot.process.files for fd in file.fds}
        assert {int(path.name) for path in Path(f"/proc/{again.pid}/fd").iterdir()} == fds
        again.expect("ok", "check")
        again.expect("ok", "drain")
        again.tell("quit")
        assert again.wait() == 7
