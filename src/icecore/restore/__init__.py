# SPDX-License-Identifier: Apache-2.0
"""From a layer to a live process: a stub is launched under the old pid, rebuilt by its own system calls, let go."""

from icecore.restore.restore import Restored, restore

__all__ = ["Restored", "restore"]
