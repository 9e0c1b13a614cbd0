# SPDX-License-Identifier: Apache-2.0
"""What proves that a page was not written: the categories to ask a scan for, and how to read them."""

from dataclasses import dataclass

import numpy as np

from icecore.daemon.tracker.regions import CLASSES, Mask
from icecore.kernel.pagemap import (
    PAGE_IS_PFNZERO,
    PAGE_IS_PRESENT,
    PAGE_IS_SOFT_DIRTY,
    PAGE_IS_SWAPPED,
    PAGE_IS_WPALLOWED,
    PAGE_IS_WRITTEN,
    Regions,
)


@dataclass(frozen=True, slots=True)
class Proof:
    """One way of tracking, in terms of PAGEMAP_SCAN."""

    returned: int
    mask: int
    clean: int
    """What ``mask`` leaves of the categories of an unwritten page."""
    inverted: int = 0
    not_plain: int = 0
    """With ``inverted``: any page that is not present, unwritten data. 0: no page is that."""

    def unproven(self, regions: Regions) -> Mask:
        """Which regions are not proven unwritten."""
        found: Mask = (regions["categories"] & np.uint64(self.mask)) != np.uint64(self.clean)
        return found


WRITE_PROTECTED = Proof(
    returned=CLASSES,
    mask=PAGE_IS_WRITTEN | PAGE_IS_WPALLOWED,
    clean=PAGE_IS_WPALLOWED,
    inverted=PAGE_IS_PRESENT | PAGE_IS_WPALLOWED,
    not_plain=PAGE_IS_WRITTEN | PAGE_IS_PFNZERO | PAGE_IS_PRESENT | PAGE_IS_WPALLOWED,
)
"""Protected asynchronously, and not written since."""
NOT_SOFT_DIRTY = Proof(
    returned=PAGE_IS_SOFT_DIRTY | PAGE_IS_PRESENT | PAGE_IS_SWAPPED | PAGE_IS_PFNZERO,
    mask=PAGE_IS_SOFT_DIRTY,
    clean=0,
    inverted=PAGE_IS_PRESENT,
    not_plain=PAGE_IS_SOFT_DIRTY | PAGE_IS_PFNZERO | PAGE_IS_PRESENT,
)
"""Neither the page nor its mapping is soft-dirty."""
NO_PROOF = Proof(returned=PAGE_IS_PRESENT | PAGE_IS_SWAPPED | PAGE_IS_PFNZERO, mask=0, clean=1)
"""Every page may have been written."""
