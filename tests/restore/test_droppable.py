# SPDX-License-Identifier: Apache-2.0
"""MAP_DROPPABLE (Linux 6.11), which every program with glibc 2.41 has: comes back as such, and empty."""

import sys
from pathlib import Path

import pytest
from support.victim import Start, Victim

from icecore.daemon.engine import Checkpointer
from icecore.daemon.target import Target
from icecore.storage.store import Store

PROGRAM = """
import mmap, sys
try:
    memory = mmap.mmap(-1, 4096, flags=0x28)
except OSError:
    memory = None
else:
    memory[:5] = b"state"
print("ready", flush=True)
for command in sys.stdin:
    if memory is None:
        print("none", flush=True)
        continue
    flags = [line for line in open("/proc/self/smaps") if line.startswith("VmFlags") and " dp" in line]
    print("ok", len(flags), bytes(memory[:5]).hex(), flush=True)
    memory[:5] = b"again"
"""


@pytest.mark.parametrize("tracker", ["write-protect", "content"])
def test_droppable_memory_comes_back_empty(start: Start, tmp_path: Path, tracker: str) -> None:
    victim = start([sys.executable, "-c", PROGRAM])
    before = victim.ask("look").split()
    if before == ["none"]:
        pytest.skip("this kernel has no MAP_DROPPABLE")
    chain = Store.open(tmp_path / "store", create=True).create_chain("job")
    with Target.open(victim.pid) as target, Checkpointer.open(target, chain, tracker) as checkpointer:
        checkpointer.checkpoint()
        checkpointer.checkpoint(kill=True)
    victim.wait()
    with chain.reader() as reader, Victim.restored_from(reader) as again:
        assert again.ask("look").split() == ["ok", before[1], "0" * 10]
        assert again.ask("look").split() == ["ok", before[1], b"again".hex()]
