# SPDX-License-Identifier: Apache-2.0
"""What GetFeatures says: each ability was tried on this kernel, no version number was asked."""

import os
from dataclasses import asdict
from functools import cache

import icecore
from icecore.daemon.doctor import Ability, probe_all

WRITE_PROTECT = ("injection", "PAGEMAP_SCAN", "userfaultfd", "write protection")
"""The abilities that the write-protect tracker needs."""
SOFT_DIRTY = "soft-dirty"
"""The one that the tracker of that name needs."""


@cache
def features() -> dict[str, object]:
    """The result of GetFeatures; tried once, since it costs some processes."""
    host = os.uname()
    abilities = probe_all()
    missing = missing_for_write_protect(abilities)
    unmarked = next(ability for ability in abilities if ability.name == SOFT_DIRTY)
    return {
        "version": icecore.__version__,
        "kernel": host.release,
        "machine": host.machine,
        "trackers": [
            {"name": "write-protect", "available": not missing, "reason": missing},
            {
                "name": "soft-dirty",
                "available": unmarked.present,
                "reason": "" if unmarked.present else unmarked.detail,
            },
            {"name": "content", "available": True, "reason": ""},
        ],
        "abilities": [asdict(ability) for ability in abilities],
    }


def missing_for_write_protect(abilities: list[Ability]) -> str:
    """What the write-protect tracker lacks here; empty: nothing."""
    found = {ability.name: ability for ability in abilities}
    return "; ".join(f"{name}: {found[name].detail}" for name in WRITE_PROTECT if not found[name].present)
