# SPDX-License-Identifier: Apache-2.0
"""What the doctor finds here, and that a probe's failure is a finding, not an error."""

import json
import mmap
import os
import subprocess
import sys
from dataclasses import asdict

import pytest

from icecore.daemon.doctor import Ability, probe_all
from icecore.daemon.probes import Lacking, probe_set_tid, probe_write_protect
from icecore.daemon.tracker import soft_dirty_lacks, write_protect_lacks
from icecore.kernel import pagemap
from icecore.kernel.mman import MADV_GUARD_INSTALL

AS_NOBODY = """
import json, os, sys
from dataclasses import asdict
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
from icecore.kernel.prctl import PR_SET_DUMPABLE
from icecore.kernel.libc import syscall
from icecore.kernel.arch.x86_64 import SYS_prctl
syscall(SYS_prctl, PR_SET_DUMPABLE, 1)
from icecore.daemon.doctor import probe_all
print(json.dumps([asdict(ability) for ability in probe_all()]))
"""


def guard_pages() -> bool:
    with mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        try:
            memory.madvise(MADV_GUARD_INSTALL)
        except OSError:
            return False
    return True


def this_kernel_lacks() -> set[str]:
    """What depends on the kernel, asked without the doctor; the rest every kernel here can do for root."""
    present = {
        "PAGEMAP_SCAN": pagemap.available(),
        "PAGEMAP_SCAN guard": bool(pagemap.supported_categories() & pagemap.PAGE_IS_GUARD),
        "guard pages": guard_pages(),
        "write protection": not write_protect_lacks(),
        "soft-dirty": not soft_dirty_lacks(),
    }
    return {name for name, there in present.items() if not there}


def test_root_on_this_kernel_can_do_what_the_suite_needs() -> None:
    found = {ability.name: ability for ability in probe_all()}
    assert {name for name, ability in found.items() if not ability.present} == this_kernel_lacks()
    assert all(ability.detail and ability.needed_for for ability in found.values())
    json.dumps([asdict(ability) for ability in found.values()])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give it up")
def test_another_user_learns_what_is_not_permitted() -> None:
    source = os.path.dirname(os.path.dirname(os.path.dirname(sys.modules["icecore.daemon.doctor"].__file__ or "")))
    environment = {**os.environ, "PYTHONPATH": source, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY], env=environment, capture_output=True, text=True, check=True
    )
    found = {entry["name"]: Ability(**entry) for entry in json.loads(done.stdout)}
    assert found["ptrace"].present
    for name in ("PAGEMAP_SCAN", "write protection"):
        assert found[name].present == (name not in this_kernel_lacks())
    for name in ("seccomp suspension", "clone3 set_tid", "map_files", "CAP_CHECKPOINT_RESTORE"):
        assert not found[name].present
        assert found[name].detail


def test_single_probes() -> None:
    assert "pid" in probe_set_tid()
    if write_protect_lacks():
        with pytest.raises((OSError, Lacking)):
            probe_write_protect()
    else:
        assert "seen" in probe_write_protect()
