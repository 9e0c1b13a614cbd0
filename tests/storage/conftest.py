# SPDX-License-Identifier: Apache-2.0
"""A store and a chain on a real file system."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from icecore.storage.chain import Chain
from icecore.storage.store import Store

# a busy machine is no failure; the fixtures that examples share are a chain in a directory, which each leaves as it was
settings.register_profile(
    "icecore", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
settings.load_profile("icecore")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", create=True)


@pytest.fixture
def chain(store: Store) -> Chain:
    return store.create_chain("job")
