# SPDX-License-Identifier: Apache-2.0
"""A 32-bit victim without a 32-bit compiler: an ELF file put together by hand, a dozen instructions.

It writes ``ready 32`` and then answers every read from its standard input with ``ok 32``, by int 0x80.
"""

import struct
from pathlib import Path

BASE = 0x08048000
HEADERS = 52 + 32
READY, OK = b"ready 32\n", b"ok 32\n"
SYS_EXIT, SYS_READ, SYS_WRITE = 1, 3, 4


def _mov(register: int, value: int) -> bytes:
    """mov r32, imm32; eax 0, ecx 1, edx 2, ebx 3."""
    return struct.pack("<BI", 0xB8 + register, value)


def _call(number: int, ebx: int, ecx: int, edx: int) -> bytes:
    return _mov(0, number) + _mov(3, ebx) + _mov(1, ecx) + _mov(2, edx) + b"\xcd\x80"


def _program() -> bytes:
    block = len(_call(0, 0, 0, 0))
    end = 3 * block + 4 + 2 + block + 0  # where the text strings begin
    strings = BASE + HEADERS + end
    buffer = strings + len(READY) + len(OK)
    ready = _call(SYS_WRITE, 1, strings, len(READY))
    read = _call(SYS_READ, 0, buffer, 64)
    leave_if_nothing = b"\x85\xc0" + b"\x7e" + bytes([block + 2])  # test eax, eax; jle over the answer and the jump
    answer = _call(SYS_WRITE, 1, strings + len(READY), len(OK))
    back = b"\xeb" + struct.pack("b", -(2 * block + 4 + 2))
    leave = _call(SYS_EXIT, 7, 0, 0)
    code = ready + read + leave_if_nothing + answer + back + leave
    assert len(code) == end
    return code + READY + OK + bytes(64)


def write_victim(path: Path) -> Path:
    """Write the program and return its path."""
    body = _program()
    size = HEADERS + len(body)
    identity = b"\x7fELF" + bytes([1, 1, 1]) + bytes(9)
    header = identity + struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, BASE + HEADERS, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    segment = struct.pack("<8I", 1, 0, BASE, BASE, size, size, 7, 4096)
    path.write_bytes(header + segment + body)
    path.chmod(0o755)
    return path
