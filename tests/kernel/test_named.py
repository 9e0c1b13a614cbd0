# SPDX-License-Identifier: Apache-2.0
"""Mappings by name."""

import os

import pytest

from icecore.kernel.procfs import Vma, is_name, parse_maps, read_maps, spans_of

MAPS = parse_maps(b"""\
5000-6000 r--p 00000000 fd:00 7                          /usr/bin/my job
6000-7000 rw-p 00001000 fd:00 7                          /usr/bin/my job
8000-9000 rw-p 00000000 00:00 0                          [heap]
9000-a000 ---p 00000000 00:00 0                          [heap]
b000-c000 rw-p 00000000 00:00 0                          [anon:pool]
d000-e000 rw-p 00000000 fd:00 8                          /tmp/gone (deleted)
10000-11000 rw-p 00000000 00:00 0
11000-12000 rw-p 00000000 00:00 0
12000-13000 rw-p 00000000 00:00 0                        [stack]
13000-14000 rw-p 00000000 00:00 0
14000-15000 r--p 00000000 00:00 0
""")


@pytest.mark.parametrize(
    ("name", "spans"),
    [
        ("heap", [(0x8000, 0x9000), (0x9000, 0xA000)]),
        ("[heap]", [(0x8000, 0x9000), (0x9000, 0xA000)]),
        ("stack", [(0x10000, 0x14000)]),
        ("/usr/bin/my job", [(0x5000, 0x6000), (0x6000, 0x7000)]),
        ("[anon:pool]", [(0xB000, 0xC000)]),
        ("/tmp/gone", [(0xD000, 0xE000)]),
        ("/nowhere", []),
    ],
)
def test_where_it_is(name: str, spans: list[tuple[int, int]]) -> None:
    assert is_name(name)
    assert spans_of(name, MAPS) == spans


def test_what_is_no_name() -> None:
    assert not any(map(is_name, ("", "heaps", "libc.so.6", "7f00-7f10")))


def test_of_ourselves() -> None:
    maps: list[Vma] = read_maps(os.getpid())
    for name in ("heap", "stack"):
        assert spans_of(name, maps)
