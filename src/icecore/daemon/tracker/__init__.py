# SPDX-License-Identifier: Apache-2.0
"""Trackers: which pages of a target were written, and what each page is."""

from icecore.daemon.tracker.base import Collected, Range, Ranges, Tracker
from icecore.daemon.tracker.choose import NAMES, choose, write_protect_lacks
from icecore.daemon.tracker.content import Content
from icecore.daemon.tracker.soft_dirty import SoftDirty
from icecore.daemon.tracker.soft_dirty_probe import soft_dirty_lacks
from icecore.daemon.tracker.write_protect import WriteProtect

__all__ = [
    "NAMES",
    "Collected",
    "Content",
    "Range",
    "Ranges",
    "SoftDirty",
    "Tracker",
    "WriteProtect",
    "choose",
    "soft_dirty_lacks",
    "write_protect_lacks",
]
