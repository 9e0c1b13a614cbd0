# SPDX-License-Identifier: Apache-2.0
"""Checkpoints to restore from."""

from pathlib import Path

import pytest
from support.moment import Moment, moment_of_c


@pytest.fixture
def threads() -> Moment:
    """Eight threads with state of their own."""
    return moment_of_c("threads")


@pytest.fixture
def files(tmp_path: Path) -> Moment:
    """One of each kind of file."""
    return moment_of_c("files", tmp_path, command="step 5")
