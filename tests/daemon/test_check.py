# SPDX-License-Identifier: Apache-2.0
"""A check of a whole process: nothing to say of an ordinary one, everything at once, documented, quick."""

import time
from pathlib import Path

import pytest
from support.holders import Start, holder
from support.reasons import reasons_of

from icecore.daemon.check import REMEDIES, Reason, cannot_restore, check
from icecore.daemon.check.kinds import REFUSED as FD_REFUSED
from icecore.daemon.check.mappings import REFUSED as MAPPING_REFUSED
from icecore.daemon.check.mappings import REFUSED_FLAGS
from icecore.daemon.target import Target
from icecore.kernel.procfs import read_maps, read_vm_flags

EVERYTHING_THAT_IS_FINE = """
r, w = os.pipe(); os.write(w, b"unread")
lonely, closed = os.pipe(); os.close(closed)
regular = open("/etc/passwd"); again = os.dup(regular.fileno()); directory = os.open("/etc", os.O_RDONLY)
null = [os.open("/dev/" + name, os.O_RDONLY) for name in ("null", "zero", "full", "random", "urandom")]
event = syscall(290, 3, 0); timer = syscall(283, 1, 0)
mask = ctypes.c_uint64(2); sig = syscall(289, -1, ctypes.byref(mask), 8, 0)
poll = select.epoll(); poll.register(r); poll.register(event)
outer = select.epoll(); outer.register(poll)
shared = mmap.mmap(-1, 1 << 16)
private = mmap.mmap(regular.fileno(), 0, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE)
readonly = mmap.mmap(regular.fileno(), 0, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED)
saved = os.dup(1)
in_thread(lambda: None)
"""


def test_nothing_to_say(start: Start) -> None:
    victim = start(holder(EVERYTHING_THAT_IS_FINE))
    assert reasons_of(victim.pid) == []
    with Target.open(victim.pid) as target:
        assert check(target, read_maps(victim.pid), read_vm_flags(victim.pid)) == []


def test_a_target_that_is_gone(start: Start) -> None:
    from icecore.errors import TargetGone

    victim = start(holder(""))
    with Target.open(victim.pid) as target:
        victim.kill()
        with pytest.raises(TargetGone):
            check(target)


def test_one_error_for_all_reasons() -> None:
    reasons = [Reason("socket", "fd 5", "TCP socket"), Reason("memfd", "fd 7", "memory file /memfd:x")]
    error = cannot_restore("process 42 (cat)", reasons)
    assert error.message == "process 42 (cat) holds what cannot be restored: fd 5: TCP socket (and 1 more)"
    assert error.remedy == REMEDIES["socket"]
    assert error.reasons == tuple(map(str, reasons))


def test_quick_enough(start: Start) -> None:
    """It runs before every checkpoint. 2 ms is the aim; the limit leaves room for a busy machine."""
    with Target.open(start(holder("f = open('/etc/passwd')\n")).pid) as target:
        took: list[float] = []
        for _ in range(20):
            begun = time.perf_counter()
            assert check(target) == []
            took.append(time.perf_counter() - begun)
    assert min(took) < 0.005


RESOURCES = Path(__file__).resolve().parents[2] / "docs" / "resources.md"


def test_every_refusal_is_documented() -> None:
    rows = (line.split(" | ") for line in RESOURCES.read_text().splitlines() if line.startswith("| "))
    documented = {row[0].removeprefix("| "): row[-1].removesuffix(" |") for row in rows if len(row) == 4}
    del documented["kind"], documented["---"]
    assert documented == REMEDIES


@pytest.mark.parametrize("kind", sorted({*FD_REFUSED, *MAPPING_REFUSED, *(kind for kind, _ in REFUSED_FLAGS.values())}))
def test_every_refusal_has_a_remedy(kind: str) -> None:
    assert REMEDIES[kind]
