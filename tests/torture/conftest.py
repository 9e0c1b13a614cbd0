# SPDX-License-Identifier: Apache-2.0
"""The torture's memory is small: what is meant for large memory is used for all of it."""

from collections.abc import Iterator

import pytest

from icecore.daemon.tracker import quick_scan


@pytest.fixture(scope="session", autouse=True)
def quick_scan_of_small_memory() -> Iterator[None]:
    """One page is large, and none is near."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quick_scan, "LARGE", 1)
        patch.setattr(quick_scan, "NEAR", 0)
        yield
