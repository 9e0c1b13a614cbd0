# SPDX-License-Identifier: Apache-2.0
"""The types of the fixtures in ``tests/daemon/service/conftest.py``, and what tests read of replies."""

from typing import Protocol

from support.victim import Victim

from icecore.varlink.framing import Json, JsonObject


class Sleepers(Protocol):
    """``sleeper()``, ``sleeper(user=uid)``: a process that waits for its end."""

    def __call__(self, user: int | None = None) -> Victim: ...


def item(value: Json, *path: str | int) -> Json:
    """What is at ``path`` in a reply: ``item(reply, "targets", 0, "name")``."""
    for step in path:
        if isinstance(step, str):
            assert isinstance(value, dict)
            value = value[step]
        else:
            assert isinstance(value, list)
            value = value[step]
    return value


def target_named(reply: JsonObject, name: str) -> JsonObject:
    """One target of a List reply."""
    targets = reply["targets"]
    assert isinstance(targets, list)
    found = [target for target in targets if isinstance(target, dict) and target["name"] == name]
    assert len(found) == 1, reply
    return found[0]
