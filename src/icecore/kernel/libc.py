# SPDX-License-Identifier: Apache-2.0
"""The C library as a door to system calls: nothing but ``syscall(2)`` and its errno."""

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)

Argument = int | bytes | None
"""An integer (or address), a constant buffer, or NULL."""

# c_void_p takes all three at full width (a bare int would be cut to 32 bits). Without a prototype a call costs 8 us.
_PROTOTYPE: tuple[type[ctypes.c_long] | type[ctypes.c_void_p], ...] = (ctypes.c_long, *[ctypes.c_void_p] * 6)


def oserror(what: str) -> OSError:
    """The calling thread's errno as an exception that says which call failed."""
    errno = ctypes.get_errno()
    return OSError(errno, f"{what}: {os.strerror(errno)}")


_releasing_gil = libc["syscall"]
_releasing_gil.restype = ctypes.c_long
_releasing_gil.argtypes = _PROTOTYPE

_keeping_gil = ctypes.PyDLL(None, use_errno=True)["syscall"]
_keeping_gil.restype = ctypes.c_long
_keeping_gil.argtypes = _PROTOTYPE


def syscall(
    number: int, a: Argument = 0, b: Argument = 0, c: Argument = 0, d: Argument = 0, e: Argument = 0, f: Argument = 0,
    *, what: str = "",
) -> int:  # fmt: skip
    """Make a system call; raises OSError, which ``what`` (or the number) names."""
    result: int = _releasing_gil(number, a, b, c, d, e, f)
    if result == -1:
        raise oserror(what or f"syscall {number}")
    return result


def syscall_keeping_gil(
    number: int, a: Argument = 0, b: Argument = 0, c: Argument = 0, d: Argument = 0, e: Argument = 0, f: Argument = 0,
    *, what: str = "",
) -> int:  # fmt: skip
    """The same without releasing the GIL: for calls that return in a child process, and for ones of a microsecond."""
    result: int = _keeping_gil(number, a, b, c, d, e, f)
    if result == -1:
        raise oserror(what or f"syscall {number}")
    return result
