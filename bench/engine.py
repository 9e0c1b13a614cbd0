# SPDX-License-Identifier: Apache-2.0
"""The engine in a process of its own, so that its memory can be measured.

    engine.py STORE PID

Each line on standard input takes one checkpoint into the chain "bench" and answers with one JSON object: the report,
``seconds`` for the whole of it, and ``peak_rss``, the most bytes that this process has ever held.
"""

import json
import resource
import sys
import time
from pathlib import Path

from icecore.daemon.engine import Checkpointer
from icecore.daemon.target import Target
from icecore.storage.store import Store


def peak_rss() -> int:
    """Bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Take checkpoints until the end of the input."""
    chain = Store.open(Path(sys.argv[1]), create=True).create_chain("bench")
    with Target.open(int(sys.argv[2])) as target, Checkpointer.open(target, chain) as checkpointer:
        print(json.dumps({"ready": True}), flush=True)
        for _ in sys.stdin:
            begin = time.perf_counter()
            report = checkpointer.checkpoint().as_json()
            seconds = time.perf_counter() - begin
            print(json.dumps({**report, "seconds": seconds, "peak_rss": peak_rss()}), flush=True)


if __name__ == "__main__":
    main()
