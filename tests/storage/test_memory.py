# SPDX-License-Identifier: Apache-2.0
"""Writing and reading take bounded memory: measured in a process that handles far more than it may hold."""

import os
import subprocess
import sys

from icecore.storage.chain import Chain

SCRIPT = """
import resource, sys
from pathlib import Path
import numpy as np
from icecore.storage.chain import Chain
chain = Chain(Path(sys.argv[1]), "job")
block = np.random.default_rng(1).integers(0, 256, (2048, 4096), dtype=np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
total = 40 * len(block)
for step in range(2):
    with chain.writer() as writer:
        for first in range(0, total, len(block)):
            block[:, :8] = np.frombuffer(np.uint64(first + step).tobytes(), dtype=np.uint8)
            writer.add(np.arange(first, first + len(block), dtype=np.uint64), block)
        writer.commit(None, np.array([[0, total]], dtype=np.uint64))
for layer_id in (1, 2):
    with chain.reader(layer_id) as reader:
        assert sum(len(pages) for pages, data in reader.blocks()) == total
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_memory_is_bounded(chain: Chain) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", SCRIPT, str(chain.directory)]
    result = subprocess.run(command, capture_output=True, env=environment, timeout=120, check=True)
    assert int(result.stdout) < 100, "320 MiB of pages took that many MiB"
