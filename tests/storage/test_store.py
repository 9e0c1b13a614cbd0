# SPDX-License-Identifier: Apache-2.0
"""Stores, names, locks, and what a file system may refuse."""

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.pages import add, page, read, take, to_runs

from icecore.errors import Busy, NoSuchCheckpoint, StoreCorrupt, StoreUnusable, UsageError
from icecore.storage.chain import Chain
from icecore.storage.store import Store


def run(script: str, *arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """A Python script in a process of its own, with the test helpers at hand."""
    command = [*prefix, sys.executable, "-c", script, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)


def test_only_the_owner_may_look(store: Store, chain: Chain) -> None:
    old = os.umask(0)
    try:
        take(store.create_chain("open"), {1: page(1)})
    finally:
        os.umask(old)
    chain.set_ended(0)
    for path in store.path.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o700


def test_open_what_is_there(store: Store) -> None:
    store.create_chain("b")
    store.create_chain("a")
    store.create_chain("a")
    (store.path / "chains" / "file").touch()
    (store.path / "chains" / ".hidden").mkdir()
    again = Store.open(store.path, create=True)
    assert again.names() == ["a", "b"]
    assert again.chain("a").layers() == []


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="there is no store here") as caught:
        Store.open(tmp_path / "nowhere")
    assert "--store" in caught.value.remedy
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnusable):
        Store.open(tmp_path / "file")
    with pytest.raises(StoreUnusable):
        Store.open(tmp_path / "file", create=True)


def test_other_directories_are_not_made_stores(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(StoreUnusable, match="neither a store nor empty"):
        Store.open(tmp_path, create=True)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


@pytest.mark.parametrize("marker", [b"", b"{", b"[]", b"[" * 5000, b'{"format": "else"}', b"\xff"])
def test_not_a_store(store: Store, marker: bytes) -> None:
    (store.path / "icecore-store").write_bytes(marker)
    with pytest.raises(StoreUnusable, match="does not look like that of a store"):
        Store.open(store.path)


@pytest.mark.parametrize("version", ["2", "null", '"1"'])
def test_a_newer_store(store: Store, version: str) -> None:
    (store.path / "icecore-store").write_text(f'{{"format": "icecore-store", "version": {version}}}')
    with pytest.raises(StoreUnusable, match="format version"):
        Store.open(store.path, create=True)


@pytest.mark.parametrize("name", ["", ".", "..", "-x", ".x", "a/b", "../a", "a" * 65, "a b", "ä", "a\n", "a\0"])
def test_names_that_are_refused(store: Store, name: str) -> None:
    for method in (store.chain, store.create_chain):
        with pytest.raises(UsageError, match="cannot be the name"):
            method(name)


@pytest.mark.parametrize("name", ["a", "A-1.b_c", "_x", "9", "a" * 64])
def test_names_that_are_accepted(store: Store, name: str) -> None:
    with pytest.raises(NoSuchCheckpoint):
        store.chain(name)
    assert store.create_chain(name).name == name
    assert store.names() == [name]


def test_ended(chain: Chain) -> None:
    assert chain.ended() is None
    chain.set_ended(3)
    assert Chain(chain.directory, "job").ended() == 3
    chain.set_ended(None)
    assert chain.ended() is None
    for damage in (b"", b"[]", b'{"ended": "x"}', b"[" * 9999):
        (chain.directory / "chain.json").write_bytes(damage)
        with pytest.raises(StoreCorrupt, match="chain job"):
            chain.ended()


def test_one_writer_in_this_process(chain: Chain) -> None:
    with chain.writer(), pytest.raises(Busy, match=f"chain job is being written by process {os.getpid()}"):
        Chain(chain.directory, "job").writer()
    chain.writer().abort()


HOLD = """
import sys
from pathlib import Path
from icecore.storage.chain import Chain
writer = Chain(Path(sys.argv[1]), "job").writer()
print("held", flush=True)
sys.stdin.read()
"""


def test_one_writer_on_this_machine_and_death_lets_go(chain: Chain) -> None:
    take(chain, {1: page(1)})
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", HOLD, str(chain.directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Busy, match=f"by process {holder.pid}") as caught:
            chain.writer()
        assert "wait" in caught.value.remedy
        assert read(chain) == {1: page(1)}
        holder.kill()
    take(chain, {1: page(2)})


def test_writers_in_many_threads_exclude_each_other(chain: Chain) -> None:
    outcomes: list[str] = []
    barrier = threading.Barrier(4)

    def write() -> None:
        barrier.wait()
        for _ in range(10):
            try:
                take(chain, {1: page(1)})
                outcomes.append("written")
            except Busy:
                outcomes.append("busy")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 40
    assert len(chain.layers()) == outcomes.count("written")


KILLED = """
import os, sys, threading, time
from pathlib import Path
from support.pages import page, poke, take
from icecore.storage.chain import Chain
chain = Chain(Path(sys.argv[1]), "job")
print("ready", flush=True)
threading.Thread(target=lambda: (time.sleep(float(sys.argv[2])), os.kill(os.getpid(), 9)), daemon=True).start()
memory = {number: page(number) for number in range(600)}
step = 0
while True:
    step += 1
    take(chain, {number: poke(content, step) for number, content in memory.items()}, keyframe=step % 5 == 0)
"""


@pytest.mark.parametrize("after", [0.01 * step for step in range(2, 18)])
def test_killed_at_any_instant(chain: Chain, after: float) -> None:
    """The chain is as it was or longer; nothing is left behind; the next writer goes on."""
    memory = {number: page(number) for number in range(600)}
    take(chain, memory)
    assert run(KILLED, chain.directory, after).returncode == -signal.SIGKILL
    for info in chain.layers():
        assert read(chain, info.id).keys() == memory.keys()
    take(chain, memory)
    assert read(chain) == memory
    names = {path.name for path in chain.directory.iterdir()}
    expected = {f"{info.id:08d}.layer" for info in chain.layers()} | {"lock", "head.index", "head.pages"}
    assert names - {".head.index.tmp"} == expected


FULL = """
import errno, os, sys
from pathlib import Path
from support.pages import add, page, read, take, to_runs
from icecore.errors import StoreUnusable
from icecore.storage.store import Store
os.system("mount -t tmpfs -o size=4m none " + sys.argv[1])
chain = Store.open(Path(sys.argv[1]) / "store", create=True).create_chain("job")
small = {number: page(number) for number in range(100)}
take(chain, small)
large = {number: page(number) for number in range(2000)}
for attempt in range(3):
    try:
        take(chain, large)
    except StoreUnusable as error:
        assert "No space left" in error.message and "free some space" in error.remedy, error
        print("full")
    assert [info.id for info in chain.layers()] == [1]
    assert read(chain) == small
take(chain, {number: page(number) for number in range(101)})
assert read(chain, 1) == small
print(sorted(os.listdir(chain.directory)))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_full_disk(tmp_path: Path) -> None:
    result = run(FULL, tmp_path, prefix=("unshare", "--mount", "--propagation", "private"))
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[:3] == ["full"] * 3
    assert lines[3] == "['00000001.layer', '00000002.layer', 'head.index', 'head.pages', 'lock']"


LIMITED = """
import resource, sys
from pathlib import Path
from support.pages import page, read, take
from icecore.errors import StoreUnusable
from icecore.storage.chain import Chain
chain = Chain(Path(sys.argv[1]), "job")
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    take(chain, {number: page(number) for number in range(2000)})
except StoreUnusable as error:
    print(error.message, "|", error.remedy)
"""


def test_a_file_size_limit(chain: Chain) -> None:
    take(chain, {1: page(1)})
    result = run(LIMITED, chain.directory)
    assert result.stderr == ""
    assert "File too large | raise the limit on file sizes" in result.stdout
    assert read(chain) == {1: page(1)}


READ_ONLY = """
import os, sys
from pathlib import Path
from support.pages import page, read, take
from icecore.errors import StoreUnusable
from icecore.storage.store import Store
path = sys.argv[1]
os.system(f"mount --bind {path} {path} && mount -o remount,bind,ro {path}")
chain = Store.open(path).chain("job")
assert read(chain, 1) == {1: page(1)} and read(chain, 2) == {1: page(2)}
for attempt in (lambda: take(chain, {1: page(3)}), lambda: chain.set_ended(1)):
    try:
        attempt()
    except StoreUnusable as error:
        print(error.message.split(": ")[-1], "|", error.remedy)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
@pytest.mark.parametrize("with_head", [True, False])
def test_a_read_only_store_can_be_read(store: Store, chain: Chain, with_head: bool) -> None:
    take(chain, {1: page(1)})
    take(chain, {1: page(2)})
    if not with_head:
        (chain.directory / "head.index").unlink()
    result = run(READ_ONLY, store.path, prefix=("unshare", "--mount", "--propagation", "private"))
    assert result.stderr == ""
    expected = "Read-only file system | remount it for writing, or choose another store with --store"
    assert result.stdout.splitlines() == [expected] * 2


FORBIDDEN = """
import os, sys
from icecore.errors import StoreUnusable
from icecore.storage.store import Store
os.setuid(65534)
try:
    Store.open(sys.argv[1])
except StoreUnusable as error:
    print(error.message.split(": ")[-1], "|", error.remedy)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="changes its user")
def test_somebody_elses_store(store: Store) -> None:
    result = run(FORBIDDEN, store.path)
    assert result.stdout == "Permission denied | run as the owner of the store, or choose another one with --store\n"


def test_without_unnamed_files(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems that lack O_TMPFILE get a temporary name, and what dead writers left is removed."""
    real = os.open

    def without(path: str | Path, flags: int, mode: int = 0o777, **rest: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "Operation not supported")
        return real(path, flags, mode, **rest)

    monkeypatch.setattr(os, "open", without)
    (chain.directory / ".tmp-1-dead").touch()
    memory = {number: page(number) for number in range(300)}
    take(chain, memory)
    with chain.writer() as writer:
        add(writer, {1: page(7)}, [1])
        writer.abort()
    with chain.writer() as writer, pytest.raises(RuntimeError):
        writer.commit(None, to_runs([7000]))
    assert read(chain) == memory
    assert not [path for path in chain.directory.iterdir() if path.name.startswith(".tmp")]


def test_a_chain_that_was_removed_and_begun_again(chain: Chain) -> None:
    """What is remembered of a layer does not outlive it."""
    take(chain, {1: page(1)})
    take(chain, {1: page(2)})
    for path in chain.directory.iterdir():
        path.unlink()
    other = Chain(chain.directory, "job")
    take(other, {1: page(3)})
    assert chain.layers() == other.layers()
    take(chain, {1: page(4)})
    assert [read(other, number) for number in (1, 2)] == [{1: page(3)}, {1: page(4)}]
