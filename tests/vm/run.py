#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""``run.py --kernel 6.12 -- COMMAND...``: run a command under another kernel, here and now; exits with its status."""

import argparse
import os
import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vm import machine
from vm.kernels import KERNELS, HarnessError, kernel_named

NO_REPORT = 125
"""Exit status when the guest never said how the command ended."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernel", required=True, help=f"one of {', '.join(KERNELS)}")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds until the guest is given up")
    parser.add_argument("--memory", type=int, default=3072, help="MiB")
    parser.add_argument("--cpus", type=int, default=1, help="one is faster for serial work")
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    return parser.parse_args()


def main() -> int:
    """Run it."""
    asked = arguments()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # not without tidying up
    try:
        return machine.run(
            kernel_named(asked.kernel),
            asked.command,
            output=lambda data: os.write(sys.stdout.fileno(), data),
            timeout=asked.timeout,
            memory_mib=asked.memory,
            cpus=asked.cpus,
        )
    except HarnessError as error:
        print(f"vm: {error}", file=sys.stderr)
        return NO_REPORT


if __name__ == "__main__":
    sys.exit(main())
