# SPDX-License-Identifier: Apache-2.0
"""Every decoder, fed with bytes that nobody wrote in good faith: the right error, and no memory or time to speak of."""

import dataclasses
import os
import struct
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from support.pages import Memory, page, poke, read, take
from support.sealed import Sealed, as_map

from icecore.errors import IcecoreError
from icecore.storage import arrays, codec, head, layer, layer_index, page_table, zstd
from icecore.storage.chain import Chain
from icecore.storage.codec import DecodeError
from icecore.storage.hashing import checksum
from icecore.storage.records import Process
from icecore.storage.typed import from_plain

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(plain)
def test_codec_round_trip(value: object) -> None:
    assert codec.unpack(codec.pack(value)) == value


@given(st.binary(max_size=200))
def test_codec_takes_any_bytes(data: bytes) -> None:
    with_errors(lambda: codec.unpack(data))


@pytest.mark.parametrize("data", [b"", b"\xc0\xc0", b"\xc1", b"\xd4\x01\x00", b"\xd6\xff\0\0\0\0", b"\x81\x01\x02"])
def test_codec_refuses(data: bytes) -> None:
    """Nothing, too much, the unused byte, an extension, a timestamp, a key that is no string."""
    with pytest.raises(DecodeError):
        codec.unpack(data)


BOMBS = {
    "nested arrays": b"\xdd\x00\x0f\xff\xff" * 100_000,
    "nested maps": b"\xdf\x00\x0f\xff\xff\xa1a" * 100_000,
    "deep arrays": b"\x91" * 5_000_000,
    "huge array": b"\xdd\xff\xff\xff\xff",
    "huge bin": b"\xc6\xff\xff\xff\xff",
    "huge map": b"\xdf\xff\xff\xff\xff",
}
BOUNDED = """
import resource, sys
from icecore.storage import codec, zstd
data = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    codec.unpack(data) if sys.argv[1] == "codec" else zstd.decompress(data, 1 << 20)
except codec.DecodeError:
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def grown_mib(decoder: str, data: bytes) -> int:
    """By how much a process grows that decodes ``data`` and finds that it is wrong."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", BOUNDED, decoder]
    result = subprocess.run(command, input=data, capture_output=True, env=environment, timeout=20, check=True)
    return int(result.stdout)


@pytest.mark.parametrize("kind", BOMBS)
def test_msgpack_bombs(kind: str) -> None:
    assert grown_mib("codec", BOMBS[kind]) < 32


def test_zstd_bombs() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 30))
    assert grown_mib("zstd", bomb) < 8
    stream = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    unsized = stream.compress(bytes(1 << 28)) + stream.flush()
    assert grown_mib("zstd", unsized) < 8


@given(st.binary(min_size=1, max_size=100))
def test_zstd_takes_any_bytes(data: bytes) -> None:
    with_errors(lambda: zstd.decompress(data, 1000))
    frame = zstd.compress(data)
    assert zstd.decompress(frame, len(data)) == data
    for wrong in (frame + b"x", frame[:-1], frame + frame):
        with pytest.raises(DecodeError):
            zstd.decompress(wrong, 1000)


@given(plain)
def test_records_take_any_value(value: object) -> None:
    with pytest.raises(DecodeError):
        from_plain(Process, value)


@given(
    st.dictionaries(st.sampled_from(["numbers", "hashes", "stored", "parent", "zero", "guard"]), st.binary(max_size=64))
)
def test_page_table_takes_any_value(fields: dict[str, bytes]) -> None:
    with_errors(lambda: page_table.unpack(zstd.compress(codec.pack(fields)), 2))


def test_runs_must_be_in_order() -> None:
    for borders in ([2, 1], [1, 1], [1, 2, 2, 3], [1, 3, 2, 4], [1], [0, 2**60], [5, 2**64 - 1]):
        data = arrays.pack_numbers(np.array(borders, dtype=np.uint64))
        with pytest.raises(DecodeError):
            arrays.unpack_runs(data, "runs")
    with pytest.raises(DecodeError):
        arrays.unpack_runs(b"1234567", "runs")


def with_errors(attempt: Callable[[], object]) -> None:
    """Succeeds or raises what is documented: anything else is a bug."""
    try:
        attempt()
    except (DecodeError, IcecoreError):
        return


MEMORY: Memory = {number: page(number) for number in range(20)}


@pytest.fixture
def sealed(chain: Chain) -> Chain:
    take(chain, MEMORY)
    take(chain, {number: poke(content, number) for number, content in MEMORY.items()}, zero=[30], guard=[40])
    (chain.directory / head.INDEX).unlink()
    return chain


index_fields = st.sampled_from(["required", "optional", "blocks", "table_length", "table_digest", "info", "process"])
table_fields = st.sampled_from(["numbers", "hashes", "stored", "parent", "zero", "guard"])
table_values = (
    st.binary(max_size=64)
    | st.lists(st.integers(0, 60), max_size=40).map(lambda items: arrays.pack_numbers(np.array(items, dtype=np.uint64)))
    | st.lists(st.integers(0, 2**64 - 1), max_size=6).map(lambda items: struct.pack(f"<{len(items)}Q", *items))
)


@given(index_fields, plain)
def test_a_layer_with_any_index(sealed: Chain, field: str, value: object) -> None:
    tamper(sealed, lambda parts: parts.lies.update({field: value}))


@given(st.sampled_from(["lengths", "pages", "encodings", "digests"]), st.binary(max_size=40))
def test_a_layer_with_any_block_table(sealed: Chain, field: str, value: bytes) -> None:
    tamper(sealed, lambda parts: parts.index.update(blocks={**as_map(parts.index["blocks"]), field: value}))


@given(st.sampled_from([field.name for field in dataclasses.fields(layer.LayerInfo)]), plain)
def test_a_layer_with_any_info(sealed: Chain, field: str, value: object) -> None:
    tamper(sealed, lambda parts: parts.index.update(info={**as_map(parts.index["info"]), field: value}))


@given(st.dictionaries(table_fields, table_values, min_size=1))
def test_a_layer_with_any_page_table(sealed: Chain, fields: dict[str, bytes]) -> None:
    tamper(sealed, lambda parts: parts.table.update(fields))


def drain(chain: Chain) -> None:
    """Read every page with bytes. The zero pages are a set of runs that an enemy can make as large as he likes."""
    with chain.reader(2) as reader:
        for _pages, _data in reader.blocks():
            pass


def tamper(chain: Chain, change: Callable[[Sealed], object]) -> None:
    """Reading and writing a chain whose second layer was made by an enemy: the error that is documented, or success."""
    path = chain.directory / "00000002.layer"
    original = path.read_bytes()
    try:
        parts = Sealed(path)
        change(parts)
        parts.write()
        fresh = Chain(chain.directory, chain.name)
        with_errors(lambda: drain(fresh))
        with_errors(lambda: fresh.writer().abort())
        with_errors(lambda: fresh.reader().process)
    finally:
        path.write_bytes(original)
        (chain.directory / head.INDEX).unlink(missing_ok=True)
    assert read(Chain(chain.directory, chain.name), 1) == MEMORY


@given(st.sampled_from(["digest", "data", "zero", "guard"]), plain | table_values, st.binary(max_size=30))
def test_a_head_with_any_index(sealed: Chain, field: str, value: object, tail: bytes) -> None:
    """Readers find that it does not fit, and use the layers."""
    read(sealed, 2)
    packed = codec.pack({"digest": sealed.info(2).digest, "data": b"", "zero": b"", "guard": b"", field: value})
    body = struct.pack("<Q", len(packed)) + packed + tail
    (sealed.directory / head.INDEX).write_bytes(head.HEADER.pack(head.MAGIC, checksum(body)) + body)
    assert read(sealed, 2).keys() == {*MEMORY, 30}


@given(st.binary(max_size=120))
def test_index_takes_any_bytes(data: bytes) -> None:
    with_errors(lambda: layer_index.unpack(data))
    with_errors(lambda: layer_index.unpack(zstd.compress(data)))
