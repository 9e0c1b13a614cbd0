# SPDX-License-Identifier: Apache-2.0
"""/proc: what the kernel tells about a process, parsed into typed values, as quickly as a frozen target deserves."""

from icecore.kernel.procfs.fdinfo import FdInfo, fd_link, fd_numbers, parse_fdinfo, read_fdinfo
from icecore.kernel.procfs.maps import Vma, parse_maps, read_maps, read_resident_kb, read_vm_flags
from icecore.kernel.procfs.named import HEAP, STACK, Mapped, Span, is_name, spans_of
from icecore.kernel.procfs.process import (
    children,
    cwd,
    elf_class,
    exe,
    namespaces,
    posix_timers,
    read_auxv,
    read_bytes,
    read_cmdline,
    read_personality,
    read_text,
    root,
    thread_ids,
)
from icecore.kernel.procfs.stat import PF_KTHREAD, Stat, is_kernel_thread, parse_stat, read_stat, same_process
from icecore.kernel.procfs.status import Status, parse_status, read_status, read_vm_pin_kb

__all__ = [
    "HEAP",
    "PF_KTHREAD",
    "STACK",
    "FdInfo",
    "Mapped",
    "Span",
    "Stat",
    "Status",
    "Vma",
    "children",
    "cwd",
    "elf_class",
    "exe",
    "fd_link",
    "fd_numbers",
    "is_kernel_thread",
    "is_name",
    "namespaces",
    "parse_fdinfo",
    "parse_maps",
    "parse_stat",
    "parse_status",
    "posix_timers",
    "read_auxv",
    "read_bytes",
    "read_cmdline",
    "read_fdinfo",
    "read_maps",
    "read_personality",
    "read_resident_kb",
    "read_stat",
    "read_status",
    "read_text",
    "read_vm_flags",
    "read_vm_pin_kb",
    "root",
    "same_process",
    "spans_of",
    "thread_ids",
]
