# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint makes of a process, compared with a full reading of it, page by page."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from support.full_read import FullRead
from support.memory import Content, Pages
from support.paged import NOTHING, Mask, Memory, is_in


@dataclass(frozen=True, slots=True)
class Kept:
    """What a chain says of one moment."""

    data: Memory
    zero: Pages
    guards: Pages


def missed(truth: FullRead, kept: Kept) -> Iterator[str]:
    """Each page that a restore of ``kept`` would get wrong."""
    found = kept.data.find(truth.held.pages)[1]
    wrong = found & ~kept.data.equal(truth.held.pages, truth.held.content)
    yield from (f"{truth.name(p)} holds other bytes" for p in truth.held.pages[wrong].tolist())
    absent = truth.held.pages[~found]
    as_it_was = _unwritten(truth, absent, kept.zero, truth.held.content[~found])
    yield from (f"{truth.name(p)} has data, the checkpoint none" for p in absent[~as_it_was].tolist())
    extra = ~truth.held.find(kept.data.pages)[1]
    pages = kept.data.pages[extra]
    as_it_was = _unwritten(truth, pages, NOTHING.pages, kept.data.content[extra])
    as_it_was &= is_in(pages, truth.mapped) & ~is_in(pages, truth.guards)
    yield from (f"{truth.name(p)} was discarded, the checkpoint has data" for p in pages[~as_it_was].tolist())
    zero = kept.zero[~truth.held.find(kept.zero)[1]]
    bad = ~is_in(zero, truth.mapped) | truth.below_has(zero)
    yield from (f"{truth.name(p)} is listed as zero" for p in zero[bad].tolist())
    for one, other in ((truth.guards, kept.guards), (kept.guards, truth.guards)):
        yield from (f"{truth.name(p)}: guard or not" for p in one[~is_in(one, other)].tolist())


def _unwritten(truth: FullRead, pages: Pages, zero: Pages, content: Content) -> Mask:
    """Whether ``content`` is what the pages read as that nobody has written, or that are listed as ``zero``."""
    if not len(pages):
        return np.empty(0, np.bool_)
    blank = ~truth.below_has(pages) | is_in(pages, zero)
    found: Mask = np.where(blank, ~content.any(axis=1), truth.below_equals(pages, content))
    return found
