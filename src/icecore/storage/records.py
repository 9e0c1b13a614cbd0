# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint says about a process, as typed records; the bytes of its pages are elsewhere.

Every record is plain data: integers, strings, bytes and tuples of them. ``codec`` turns them into msgpack and back and
refuses anything that is not of the declared type. Addresses are in bytes; page numbers are addresses divided by 4096.
A newer release may add a field with a default; it never changes the meaning of one.
"""

from dataclasses import dataclass

PAGE_SIZE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """One VMA of the target, from /proc/PID/maps and the VmFlags of smaps."""

    start: int
    end: int
    prot: int
    """PROT_READ 1 | PROT_WRITE 2 | PROT_EXEC 4."""
    shared: bool
    kind: str
    """``anon`` (private anonymous, heap and stack included), ``file`` (private or read-only shared mapping of a file),
    ``shmem`` (shared anonymous), ``vdso``, ``vvar`` (any [vvar...] mapping), ``vsyscall``."""
    offset: int = 0
    """Offset into the file or shared object, bytes."""
    path: str = ""
    """File path, or the bracketed name ("[heap]", "[stack]", "[vvar_vclock]")."""
    dev: int = 0
    inode: int = 0
    """Identity of the file or of the shared object; mappings of one shared object have the same."""
    file_size: int = 0
    file_mtime_ns: int = 0
    flags: tuple[str, ...] = ()
    """VmFlags two-letter codes as smaps prints them ("rd", "gd", "lo", "nr", "hg", "nh", "dc", "dd", "wf", ...)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedObject:
    """An anonymous shared memory object: its size may exceed what is mapped of it."""

    dev: int
    inode: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalAction:
    """struct kernel_sigaction of one signal."""

    signal: int
    handler: int
    flags: int
    restorer: int
    mask: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AltStack:
    """stack_t."""

    sp: int
    flags: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rseq:
    """PTRACE_GET_RSEQ_CONFIGURATION."""

    address: int
    size: int
    signature: int
    flags: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """One thread, as it would go on: interrupted system calls are already decided in ``registers``."""

    tid: int
    name: str
    registers: bytes
    """struct user_regs_struct (x86-64: 27 u64, NT_PRSTATUS regset). A call that the stop interrupted keeps its raw
    -ERESTART* in rax and its number in orig_rax: the restorer decides by the kernel's rules."""
    xstate: bytes
    """NT_X86_XSTATE regset, uncompacted."""
    sigmask: int
    altstack: AltStack
    robust_list: int
    robust_list_len: int
    clear_child_tid: int
    rseq: Rseq | None = None
    pending: tuple[bytes, ...] = ()
    """Raw siginfo_t (128 bytes each) of the thread's own queue, oldest first."""
    parent_death_signal: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RegularFile:
    """An open regular file (or directory: ``directory``), reopened by path."""

    path: str
    flags: int
    offset: int
    size: int
    dev: int
    inode: int
    directory: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFile:
    """/dev/null, zero, full, random, urandom: reopened by path."""

    path: str
    flags: int
    rdev: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PipeEnd:
    """One end of a pipe that nobody else has: the other end is inside the target too, or is closed for good."""

    inode: int
    flags: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFd:
    count: int
    flags: int
    semaphore: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EpollTarget:
    fd: int
    events: int
    data: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoll:
    flags: int
    targets: tuple[EpollTarget, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerFd:
    """timerfd: remaining and interval in nanoseconds, relative."""

    flags: int
    clock: int
    ticks: int
    settime_flags: int
    value_ns: int
    interval_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalFd:
    flags: int
    mask: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """A standard stream that is a terminal or leads to another process: the restorer gives its own stream instead."""

    stream: int
    """0, 1 or 2: which of the restorer's streams."""
    description: str
    """What it was ("terminal /dev/pts/3", "pipe:[123]"), for people."""
    flags: int = 0


Description = RegularFile | DeviceFile | PipeEnd | EventFd | Epoll | TimerFd | SignalFd | Inherited


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenFile:
    """One open file description and every fd that refers to it (shared offset and flags: found by kcmp)."""

    fds: tuple[int, ...]
    cloexec: tuple[int, ...]
    """Those of ``fds`` that are close-on-exec."""
    description: Description


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipe:
    """A pipe's capacity and unread bytes."""

    inode: int
    capacity: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalTimer:
    """setitimer(2): which (0 real, 1 virtual, 2 prof), microseconds."""

    which: int
    value_us: int
    interval_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A resource limit, RLIMIT_* number and values; -1 is unlimited."""

    resource: int
    soft: int
    hard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Real, effective, saved and file-system ids, supplementary groups and capability sets (bit masks)."""

    uids: tuple[int, int, int, int]
    gids: tuple[int, int, int, int]
    groups: tuple[int, ...]
    cap_inheritable: int
    cap_permitted: int
    cap_effective: int
    cap_bounding: int
    cap_ambient: int
    no_new_privs: bool
    securebits: int = 0
    """SECBIT_* of prctl(PR_GET_SECUREBITS)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MmFields:
    """struct prctl_mm_map without exe_fd, from /proc/PID/stat and auxv."""

    start_code: int
    end_code: int
    start_data: int
    end_data: int
    start_brk: int
    brk: int
    start_stack: int
    arg_start: int
    arg_end: int
    env_start: int
    env_end: int
    auxv: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """Everything but the pages."""

    pid: int
    start_time: int
    """Field 22 of /proc/PID/stat, clock ticks since boot."""
    exe: str
    comm: str
    cwd: str
    umask: int
    personality: int
    session: int
    process_group: int
    dumpable: int
    credentials: Credentials
    limits: tuple[Limit, ...]
    mm: MmFields
    mappings: tuple[Mapping, ...]
    shared_objects: tuple[SharedObject, ...]
    threads: tuple[Thread, ...]
    """The leader first."""
    actions: tuple[SignalAction, ...]
    """Signals without an entry are SIG_DFL."""
    pending: tuple[bytes, ...]
    """Raw siginfo_t of the process-wide queue."""
    timers: tuple[IntervalTimer, ...]
    files: tuple[OpenFile, ...]
    pipes: tuple[Pipe, ...]
    vdso_digest: bytes
    """blake3 of the vdso image without its tail: a restore needs the same image."""
    kernel_release: str
    machine: str
    host: str = ""
    child_subreaper: bool = False
    """prctl(PR_GET_CHILD_SUBREAPER)."""
    thp_disabled: int = 0
    """prctl(PR_GET_THP_DISABLE)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeMemory:
    """What a checkpoint of some address ranges holds instead of a ``Process``: whose memory it is, and where it was."""

    pid: int
    start_time: int
    """Field 22 of /proc/PID/stat, clock ticks since boot."""
    comm: str
    asked: tuple[str, ...]
    """The ranges as they were registered: START-END in hexadecimal, or a name (heap, stack, a mapping's path)."""
    ranges: tuple[tuple[int, int], ...]
    """Where they were at that moment: [start, end), ascending and disjoint."""
    mappings: tuple[Mapping, ...]
    """What was mapped there and is kept, cut to the ranges; ``flags`` are left out."""
