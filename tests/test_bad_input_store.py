# SPDX-License-Identifier: Apache-2.0
"""A store that is not writable, full, no store, or damaged: a clear error, the target unharmed, the chain as it was."""

import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.command import NOBODY, icecore
from support.harm import examine, vdso_image_length
from support.victim import Start, Victim

from icecore.daemon.engine import Checkpointer
from icecore.daemon.target import Target
from icecore.errors import NoSuchCheckpoint, StoreCorrupt, StoreUnusable
from icecore.storage.chain import Chain
from icecore.storage.store import Store

MIB = "16"


@contextmanager
def _unharmed(victim: Victim) -> Generator[None]:
    """The victim is the same afterwards, and runs."""
    length = vdso_image_length(victim.pid)
    before = examine(victim.pid, length)
    yield
    victim.expect("ok", "check")
    after = examine(victim.pid, length)
    assert (after.fds, after.mappings, after.code, after.tracer) == (before.fds, before.mappings, before.code, 0)


def _record(victim: Victim, chain: Chain, links: int) -> None:
    with Target.open(victim.pid) as target, Checkpointer.open(target, chain) as checkpointer:
        for _ in range(links):
            victim.expect("ok", "check")
            checkpointer.checkpoint()


def _tree(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_directory_that_is_no_store(start: Start, tmp_path: Path) -> None:
    """Somebody's files are not made a store of, and stay as they are."""
    victim = start("counter")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to-mother.txt").write_text("dear mother")
    with _unharmed(victim):
        outcome = icecore("checkpoint", str(victim.pid), store=tmp_path / "letters")
    assert outcome.status == StoreUnusable.exit_code
    assert str(tmp_path / "letters") in str(outcome.error["message"])
    assert _tree(tmp_path / "letters") == {"to-mother.txt": b"dear mother"}


def test_file_that_is_no_store(start: Start, tmp_path: Path) -> None:
    """A file where the store should be."""
    victim = start("counter")
    (tmp_path / "file").write_text("text")
    with _unharmed(victim):
        outcome = icecore("checkpoint", str(victim.pid), store=tmp_path / "file")
    assert outcome.status == StoreUnusable.exit_code
    assert (tmp_path / "file").read_text() == "text"


def test_store_that_is_missing(tmp_path: Path) -> None:
    """Reading does not make one."""
    for verb in (("log", "job"), ("show", "job"), ("restore", "job")):
        outcome = icecore(*verb, store=tmp_path / "nowhere")
        assert outcome.status in (StoreUnusable.exit_code, NoSuchCheckpoint.exit_code), verb
    assert not (tmp_path / "nowhere").exists()


def test_chain_and_link_that_are_missing(start: Start, tmp_path: Path) -> None:
    """The message names what is not there."""
    victim = start("counter")
    _record(victim, Store.open(tmp_path / "store", create=True).create_chain("job"), 1)
    for name in ("other", "job@7"):
        outcome = icecore("show", name, store=tmp_path / "store")
        assert outcome.status == NoSuchCheckpoint.exit_code
        assert name.split("@")[-1] in str(outcome.error["message"])


def test_store_that_is_not_writable(start: Start, public: Path) -> None:
    """Root's store, and a user with a process of his own."""
    victim = start("counter", user=NOBODY)
    Store.open(public / "store", create=True)
    before = _tree(public / "store")
    with _unharmed(victim):
        outcome = icecore("checkpoint", str(victim.pid), "--name", "job", store=public / "store", user=NOBODY)
    assert outcome.status == StoreUnusable.exit_code, outcome.complaint
    assert _tree(public / "store") == before


@contextmanager
def _small_file_system(path: Path, mebibytes: int) -> Generator[Path]:
    path.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "icecore-test", path], check=False, capture_output=True
    )
    if made.returncode:
        pytest.skip("may not mount a tmpfs")
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65536))
        except OSError:
            pass


def test_store_that_is_full_from_the_beginning(start: Start, tmp_path: Path) -> None:
    """The keyframe does not fit: no layer, and the space is free again."""
    victim = start("leaver", MIB)
    with _small_file_system(tmp_path / "small", 2) as small:
        with _unharmed(victim):
            outcome = icecore("checkpoint", str(victim.pid), "--name", "job", store=small / "store")
        assert outcome.status == StoreUnusable.exit_code, outcome.complaint
        assert "Traceback" not in outcome.complaint
        assert not list(small.rglob("*.layer"))
        (small / "probe").write_bytes(bytes(1 << 20))


def test_store_that_becomes_full(start: Start, tmp_path: Path) -> None:
    """The chain stays as it was and the target is still tracked; when there is room again, nothing has been missed."""
    victim = start("counter")
    with _small_file_system(tmp_path / "small", 64) as small:
        chain = Store.open(small / "store", create=True).create_chain("job")
        with Target.open(victim.pid) as target, Checkpointer.open(target, chain) as checkpointer:
            checkpointer.checkpoint()
            victim.expect("ok", "check")
            _fill(small / "filler")
            for _ in range(3):
                with pytest.raises(StoreUnusable):
                    checkpointer.checkpoint()
                victim.expect("ok", "check")
            assert [layer.id for layer in chain.layers()] == [1]
            (small / "filler").unlink()
            victim.expect("parked", "park")
            assert checkpointer.checkpoint().kind == "delta"
        victim.kill()
        for number in (1, 2):
            with chain.reader(number) as reader, Victim.restored_from(reader) as restored:
                restored.expect("ok", "check")


def _layer_files(store: Path) -> list[Path]:
    return sorted(store.rglob("*.layer"))


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_truncated_layer(which: int, kept: float, start: Start, tmp_path: Path) -> None:
    """Restoring it fails with its name, before anything is made; the target can still be checkpointed or is refused."""
    victim = start("counter")
    chain = Store.open(tmp_path / "store", create=True).create_chain("job")
    _record(victim, chain, 3)
    layer = _layer_files(tmp_path / "store")[which]
    with layer.open("r+b") as file:
        file.truncate(int(layer.stat().st_size * kept))
    with _unharmed(victim):
        outcome = icecore("checkpoint", str(victim.pid), "--name", "job", store=tmp_path / "store")
    assert outcome.status in (0, StoreCorrupt.exit_code), outcome.complaint
    victim.kill()
    outcome = icecore("restore", "--detach", f"job@{which + 1}", store=tmp_path / "store")
    assert outcome.status == StoreCorrupt.exit_code, outcome.complaint
    assert "job" in str(outcome.error["message"])
    assert "Traceback" not in outcome.complaint


def _content(chain: Chain) -> bytes:
    with chain.reader(1) as reader:
        return b"".join(pages.tobytes() + data.tobytes() for pages, data in reader.blocks())


def test_flipped_byte(start: Start, tmp_path: Path) -> None:
    """A damaged byte in the keyframe is found, or lies in a block that a later round superseded and changes nothing."""
    victim = start("counter")
    chain = Store.open(tmp_path / "store", create=True).create_chain("job")
    _record(victim, chain, 2)
    layer = _layer_files(tmp_path / "store")[0]
    whole = layer.read_bytes()
    content, found = _content(chain), 0
    for part in range(40):
        at = len(whole) * part // 40
        layer.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        try:
            assert _content(chain) == content
        except StoreCorrupt:
            found += 1
    assert found >= 5
    layer.write_bytes(whole)
    victim.kill()
    with chain.reader(1) as reader, Victim.restored_from(reader) as restored:
        restored.expect("ok", "check")
