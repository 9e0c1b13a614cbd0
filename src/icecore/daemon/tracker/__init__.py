# SPDX-License-Identifier: Apache-2.0
"""Trackers: which pages of a target were written, and what each page is."""

from icecore.daemon.tracker.base import Collected, Ranges, Tracker
from icecore.daemon.tracker.choose import NAMES, choose, write_protect_lacks
from icecore.daemon.tracker.content import Content
from icecore.daemon.tracker.write_protect import WriteProtect

__all__ = ["NAMES", "Collected", "Content", "Ranges", "Tracker", "WriteProtect", "choose", "write_protect_lacks"]
