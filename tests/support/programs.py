# SPDX-License-Identifier: Apache-2.0
"""The victims' programs: compiled once for each content of their sources, and kept below the temporary directory."""

import functools
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

VICTIMS = Path(__file__).resolve().parent.parent / "victims"
C_FLAGS = ("-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread")


def cache_directory() -> Path:
    """A directory of our own that other users may read: some tests run a victim as another user."""
    path = Path(tempfile.gettempdir()) / f"icecore-victims-{os.geteuid()}"
    path.mkdir(mode=0o755, exist_ok=True)
    if path.is_symlink() or path.stat().st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to somebody else")
    return path


@functools.cache
def c_program(name: str) -> Path:
    """The executable of ``victims/NAME.c``."""
    source = VICTIMS / f"{name}.c"
    digest = hashlib.sha256(source.read_bytes() + (VICTIMS / "victim.h").read_bytes() + " ".join(C_FLAGS).encode())
    return _built(name, digest.hexdigest(), ["gcc", *C_FLAGS, str(source)])


@functools.cache
def go_program(name: str) -> Path:
    """The executable of ``victims/NAME.go``."""
    source = VICTIMS / f"{name}.go"
    return _built(name, hashlib.sha256(source.read_bytes()).hexdigest(), ["go", "build"], str(source))


def python_program(name: str) -> list[str]:
    """The command line of ``victims/NAME.py``, with this interpreter, isolated from the environment."""
    return [os.path.realpath(sys.executable), "-I", str(VICTIMS / f"{name}.py")]


def _built(name: str, digest: str, command: list[str], *sources: str) -> Path:
    program = cache_directory() / f"{name}-{digest[:16]}"
    if not program.exists():
        unfinished = program.with_suffix(f".{os.getpid()}")
        environment = {**os.environ, "GOCACHE": str(cache_directory() / "go"), "GO111MODULE": "off"}
        subprocess.run([*command, "-o", str(unfinished), *sources], check=True, env=environment)
        unfinished.rename(program)
    return program
