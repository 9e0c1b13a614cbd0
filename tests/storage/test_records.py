# SPDX-License-Identifier: Apache-2.0
"""Process records survive the way to a layer and back; what does not fit is refused by its path."""

from dataclasses import replace

import pytest
from support.sealed import as_map

from icecore.errors import CannotRestore
from icecore.storage import codec, runs
from icecore.storage.chain import Chain
from icecore.storage.codec import DecodeError
from icecore.storage.records import (
    AltStack,
    Credentials,
    Description,
    DeviceFile,
    Epoll,
    EpollTarget,
    EventFd,
    Inherited,
    IntervalTimer,
    Limit,
    Mapping,
    MmFields,
    OpenFile,
    Pipe,
    PipeEnd,
    Process,
    RangeMemory,
    RegularFile,
    Rseq,
    SharedObject,
    SignalAction,
    SignalFd,
    Thread,
    TimerFd,
)
from icecore.storage.typed import from_plain, to_plain

DESCRIPTIONS: tuple[Description, ...] = (
    RegularFile(path="/tmp/ä \udcff", flags=1, offset=2**63, size=0, dev=1, inode=2, directory=True),
    DeviceFile(path="/dev/null", flags=2, rdev=259),
    PipeEnd(inode=7, flags=0),
    EventFd(count=2**64 - 1, flags=0, semaphore=True),
    Epoll(flags=0, targets=(EpollTarget(fd=3, events=1, data=2**64 - 1),)),
    TimerFd(flags=0, clock=1, ticks=0, settime_flags=0, value_ns=5, interval_ns=6),
    SignalFd(flags=0, mask=1),
    Inherited(stream=1, description="terminal /dev/pts/3"),
)  # fmt: skip

PROCESS = Process(
    pid=7,
    start_time=123456789,
    exe="/usr/bin/job",
    comm="job",
    cwd="/",
    umask=0o22,
    personality=0,
    session=7,
    process_group=7,
    dumpable=1,
    credentials=Credentials(
        uids=(1, 2, 3, 4), gids=(5, 6, 7, 8), groups=(9,), cap_inheritable=0, cap_permitted=1, cap_effective=2,
        cap_bounding=2**41 - 1, cap_ambient=0, no_new_privs=True,
    ),
    limits=(Limit(resource=7, soft=1024, hard=2**64 - 1),),
    mm=MmFields(
        start_code=1, end_code=2, start_data=3, end_data=4, start_brk=5, brk=6, start_stack=7, arg_start=8, arg_end=9,
        env_start=10, env_end=11, auxv=b"\0\xff",
    ),
    mappings=(Mapping(start=4096, end=8192, prot=3, shared=False, kind="anon", path="[heap]", flags=("rd", "wr")),),
    shared_objects=(SharedObject(dev=1, inode=2, size=3),),
    threads=(
        Thread(
            tid=7, name="job", registers=bytes(216), xstate=bytes(range(256)), sigmask=2**64 - 1,
            altstack=AltStack(sp=0, flags=2, size=0), robust_list=1, robust_list_len=24, clear_child_tid=2,
            rseq=Rseq(address=1, size=32, signature=3, flags=0), pending=(bytes(128),),
        ),
    ),
    actions=(SignalAction(signal=15, handler=2**47, flags=0, restorer=0, mask=0),),
    pending=(),
    timers=(IntervalTimer(which=0, value_us=1, interval_us=0),),
    files=tuple(
        OpenFile(fds=(number,), cloexec=(), description=description) for number, description in enumerate(DESCRIPTIONS)
    ),
    pipes=(Pipe(inode=7, capacity=65536, data=b"unread"),),
    vdso_digest=bytes(32),
    kernel_release="6.18.44",
    machine="x86_64",
)  # fmt: skip

MEMORY = RangeMemory(
    pid=7, start_time=123456789, comm="job", asked=("heap", "5000-6000"), ranges=((4096, 8192), (20480, 24576)),
    mappings=PROCESS.mappings,
)  # fmt: skip


def test_round_trip() -> None:
    assert from_plain(Process, codec.unpack(codec.pack(to_plain(PROCESS)))) == PROCESS


def test_through_a_layer(chain: Chain) -> None:
    with chain.writer() as writer:
        info = writer.commit(PROCESS, runs.EMPTY)
    assert (info.pid, info.start_time, info.comm, info.ranges) == (7, 123456789, "job", False)
    with chain.reader() as reader:
        assert reader.process == PROCESS
        assert reader.memory is None
        assert reader.info == info


def test_ranges_through_a_layer(chain: Chain) -> None:
    with chain.writer() as writer:
        info = writer.commit(MEMORY, runs.EMPTY)
    assert (info.pid, info.start_time, info.comm, info.ranges) == (7, 123456789, "job", True)
    with chain.reader() as reader:
        assert reader.memory == MEMORY
        assert reader.info == info
        with pytest.raises(CannotRestore, match="job@1 holds memory only"):
            _ = reader.process


def test_a_layer_without_a_process(chain: Chain) -> None:
    with chain.writer() as writer:
        writer.commit(None, runs.EMPTY)
    with chain.reader() as reader, pytest.raises(CannotRestore, match="job@1 holds memory only"):
        _ = reader.process


def plain() -> dict[str, object]:
    return as_map(to_plain(PROCESS))


def test_unknown_fields_are_left_alone_and_missing_ones_take_defaults() -> None:
    value = plain() | {"from_the_future": 1}
    del value["host"]
    assert from_plain(Process, value) == replace(PROCESS, host="")


UNFIT: list[tuple[str, object, str]] = [
    ("pid", "7", r"Process\.pid: int expected, str found"),
    ("pid", True, r"Process\.pid: int expected, bool found"),
    ("pid", None, r"Process\.pid: int expected, NoneType found"),
    ("exe", b"/bin", r"Process\.exe: str expected"),
    ("limits", {}, r"Process\.limits: array expected"),
    ("limits", [{"resource": 1}], r"Process\.limits: hard, soft missing"),
    ("files", [{"fds": [], "cloexec": [], "description": {"type": "Socket"}}], "unknown kind 'Socket'"),
    ("files", [{"fds": [], "cloexec": [], "description": {"type": []}}], "unknown kind"),
    ("files", [{"fds": [], "cloexec": [], "description": 1}], r"Process\.files\.description: map expected"),
]


def test_a_range_has_two_ends() -> None:
    with pytest.raises(DecodeError, match=r"RangeMemory\.ranges: 2 elements expected, 1 found"):
        from_plain(RangeMemory, as_map(to_plain(MEMORY)) | {"ranges": [[1]]})


@pytest.mark.parametrize(("field", "value", "message"), UNFIT)
def test_what_does_not_fit_is_named(field: str, value: object, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        from_plain(Process, plain() | {field: value})
