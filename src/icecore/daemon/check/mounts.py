# SPDX-License-Identifier: Apache-2.0
"""Which file system a mount id is: from /proc/self/mountinfo, read again only when an id is new."""

_types: dict[int, str] = {}

KERNEL_FILE_SYSTEMS = frozenset(
    {
        *("binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "efivarfs", "fusectl", "mqueue", "nfsd"),
        *("nsfs", "proc", "pstore", "resctrl", "rpc_pipefs", "securityfs", "selinuxfs", "sysfs", "tracefs"),
    }
)
"""Their files are windows into the kernel: what a process had open there cannot be opened again elsewhere."""


def file_system(mount_id: int) -> str:
    """The type ("ext4", "proc"), or "" for a mount that is in no mount table (the kernel's own, for memfd and such)."""
    if mount_id not in _types:
        _types.clear()
        _types.update(read_types())
        _types.setdefault(mount_id, "")
    return _types[mount_id]


def read_types() -> dict[int, str]:
    """Mount id to file system type; proc_pid_mountinfo(5): the type follows the lone hyphen."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return {int(line.split(" ", 1)[0]): line.split(" - ", 1)[1].split(" ", 1)[0] for line in file}
