# SPDX-License-Identifier: Apache-2.0
"""Real processes that hold something: a few lines of Python, run until the test is over."""

import os
import sys
from collections.abc import Callable, Sequence

from support.victim import Victim

Start = Callable[..., Victim]
"""The type of the fixture ``start``."""

PRELUDE = """
import array, ctypes, fcntl, mmap, os, select, signal, socket, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = libc.shmat.restype = ctypes.c_void_p
libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
libc.syscall.restype = ctypes.c_long
def need(result):
    if result in (None, -1, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
def syscall(*arguments):
    return need(libc.syscall(*(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)))
def map(length, prot=3, flags=0x22, fd=-1):
    return need(libc.mmap(None, length, prot, flags, fd, 0))
def in_thread(function):
    done = threading.Event()
    def run():
        function()
        done.set()
        threading.Event().wait()
    threading.Thread(target=run, daemon=True).start()
    done.wait()
"""

EPILOGUE = """
print("ready", os.getpid(), flush=True)
for line in sys.stdin:
    print(eval(line), flush=True)
"""


def holder(code: str, arguments: Sequence[str] = ()) -> list[str]:
    """The command of a process that runs ``code``, says ``ready`` and then answers each line with its value."""
    return [os.path.realpath(sys.executable), "-I", "-c", PRELUDE + code + EPILOGUE, *arguments]
