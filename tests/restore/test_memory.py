# SPDX-License-Identifier: Apache-2.0
"""Every kind and attribute of a mapping comes back; what the restore worked with is gone."""

from pathlib import Path

import pytest
from support.moment import Moment, moment_of_c

from icecore.errors import CannotRestore
from icecore.kernel.pagemap import PAGE_IS_GUARD, Pagemap, supported_categories
from icecore.kernel.procfs import Vma, read_maps, read_vm_flags
from icecore.restore.space import LOWEST, MARGIN, gap, outside

VOLATILE = {"sd", "gu", "um", "uw", "ac"}
"""VmFlags that say what happened to a mapping or how it is accounted, not what it is."""


@pytest.fixture
def mappings(tmp_path: Path) -> Moment:
    return moment_of_c("mappings", tmp_path / "file")


def test_content_protection_names_and_attributes(mappings: Moment) -> None:
    recorded = mappings.snapshot.process.mappings
    with mappings.restored() as again:
        assert [_key(vma) for vma in read_maps(again.pid)] == [
            (m.start, m.end, m.prot, m.shared, m.offset, m.path) for m in recorded
        ]
        flags = {start: set(found) - VOLATILE for (start, _), found in read_vm_flags(again.pid).items()}
        assert flags == {m.start: set(m.flags) - VOLATILE for m in recorded if m.start in flags}
        again.expect("ok", "check")
        again.tell("quit")
        assert again.wait() == 7


def _key(vma: Vma) -> tuple[int, int, int, bool, int, str]:
    return vma.start, vma.end, vma.prot, vma.shared, vma.offset, vma.path


@pytest.mark.skipif(not supported_categories() & PAGE_IS_GUARD, reason="this kernel does not show guard pages")
def test_guard_pages(mappings: Moment) -> None:
    wanted = (mappings.snapshot.guard * 4096).tolist()
    assert wanted
    with mappings.restored() as again, Pagemap(again.pid) as pagemap:
        for start, end in wanted:
            found = pagemap.scan(start - 4096, end + 4096, mask=PAGE_IS_GUARD, returned=PAGE_IS_GUARD).tolist()
            assert found == [(start, end, PAGE_IS_GUARD)]


def test_a_gap_is_lowest_and_keeps_its_distance() -> None:
    assert gap([], 4096) == LOWEST
    assert gap([(LOWEST, LOWEST + 4096)], 4096) == LOWEST + 4096 + MARGIN
    assert gap([(0x1000, LOWEST + 4096), (LOWEST + 4 * MARGIN, 1 << 46)], MARGIN) == LOWEST + 4096 + MARGIN
    with pytest.raises(CannotRestore, match="no gap"):
        gap([(LOWEST, (1 << 47) - 4096)], 4096)


def test_outside() -> None:
    assert outside([(0x3000, 0x4000), (0x1000, 0x2000)])[:2] == [(0, 0x1000), (0x2000, 0x3000)]
    assert outside([(0, (1 << 47) - 4096)]) == []
