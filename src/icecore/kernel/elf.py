# SPDX-License-Identifier: Apache-2.0
"""A static x86-64 ELF program of two instructions: the shell that a restored process is built in.

Not a general ELF reader or writer.
"""

import struct

PAGE_SIZE = 4096
CODE = b"\x0f\x05\xeb\xfe"
"""``syscall; jmp .``: the first makes the calls that a tracer sets up, the second is where a stray run stays."""
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_IDENT = b"\x7fELF\x02\x01\x01" + bytes(9)
_ET_EXEC, _EM_X86_64, _PT_LOAD, _PT_GNU_STACK = 2, 62, 1, 0x6474E551
_PF_X, _PF_W, _PF_R = 1, 2, 4
CODE_OFFSET = _HEADER.size + 2 * _PROGRAM_HEADER.size


def minimal_elf(address: int, code: bytes = CODE) -> bytes:
    """The file: one read-execute page at ``address`` (page-aligned), entered at ``address + CODE_OFFSET``."""
    entry, size = address + CODE_OFFSET, CODE_OFFSET + len(code)
    header = _HEADER.pack(
        _IDENT, _ET_EXEC, _EM_X86_64, 1, entry, _HEADER.size, 0, 0, _HEADER.size, _PROGRAM_HEADER.size, 2, 0, 0, 0
    )
    load = _PROGRAM_HEADER.pack(_PT_LOAD, _PF_R | _PF_X, 0, address, address, size, size, PAGE_SIZE)
    stack = _PROGRAM_HEADER.pack(_PT_GNU_STACK, _PF_R | _PF_W, 0, 0, 0, 0, 0, 16)
    return header + load + stack + code
