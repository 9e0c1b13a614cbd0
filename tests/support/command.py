# SPDX-License-Identifier: Apache-2.0
"""Running the ``icecore`` command as a person would, also as another user."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import cast

SOURCE = Path(__file__).resolve().parent.parent.parent / "src"
SECONDS = 120
NOBODY = 65534


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended."""

    status: int
    document: dict[str, object]
    """The JSON object on stdout."""
    complaint: str
    """What it wrote on stderr."""

    @property
    def error(self) -> dict[str, object]:
        """The object ``error`` of the document."""
        found = self.document["error"]
        assert isinstance(found, dict)
        return cast("dict[str, object]", found)


def icecore(*arguments: str | Path, store: Path, user: int | None = None) -> Outcome:
    """``icecore --json --store STORE ARGUMENTS``; there is no daemon."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(SOURCE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "LC_ALL": "C.UTF-8",
    }
    # Not ``-m``: another user's working directory and home are not ours to depend on.
    program = [sys.executable, "-c", "from icecore.cli.main import main; main()", "--json", "--store", str(store)]
    done = subprocess.run(
        [*program, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        cwd="/",
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        timeout=SECONDS,
        check=False,
    )
    return Outcome(done.returncode, json.loads(done.stdout or "{}"), done.stderr)
