# SPDX-License-Identifier: Apache-2.0
"""The shell script that the guest's process 1 runs once the host's files are its root."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

KEPT = ("PATH", "VIRTUAL_ENV", "HOME", "LANG", "PYTHONPATH", "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE",
        "ICECORE_TORTURE_OPERATIONS", "ICECORE_TORTURE_SEED", "ICECORE_TORTURE_SEQUENCE")  # fmt: skip
"""What of this process's environment the command in the guest sees, where it is set."""

IN_GUEST = "ICECORE_VM_GUEST"
"""Set in a guest: whoever would start a machine of its own must not."""

# /tmp is a tmpfs: an overlay shows mapped files under other device numbers than stat(2) does. What the host has below
# its /tmp and the guest needs is bound into it.
SCRIPT = """\
mkdir -p /dev/pts /dev/shm /lib/modules/{release}
mount -t devpts -o mode=600,ptmxmode=666 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/old-tmp
mount --bind /tmp /run/old-tmp
mount -t tmpfs tmpfs /tmp
for path in {kept}; do
    case $path in /tmp/*) mkdir -p "$path" && mount --bind "/run/old-tmp/${{path#/tmp/}}" "$path";; esac
done
for path in /run/old-tmp/icecore-victims-*; do
    [ ! -d "$path" ] || cp -a "$path" /tmp/
done
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --bind {modules} /lib/modules/{release}
[ -e /sbin/modprobe ] || ln -s {busybox} /sbin/modprobe
ip link set lo up 2>/dev/null || {busybox} ip link set lo up
echo 1 >/proc/sys/vm/overcommit_memory # 3 GiB: what a test maps and never touches must not fail
cut -d' ' -f1 /proc/uptime >/vmout/booted
cd {directory} || exit
{exports}
port=$(ls /sys/class/virtio-ports | head -n1)
setsid {command} </dev/null >"/dev/$port" 2>&1
echo $? >/vmout/status
sync
echo o >/proc/sysrq-trigger
sleep 60
"""


def script(
    command: Sequence[str], directory: Path, *, modules: Path, busybox: Path, environment: Mapping[str, str]
) -> str:
    """Run the command in that directory, write its status to /vmout/status, and power off."""
    variables = {name: os.environ[name] for name in KEPT if name in os.environ} | {IN_GUEST: "1"} | dict(environment)
    return SCRIPT.format(
        release=modules.name,
        modules=shlex.quote(str(modules)),
        busybox=shlex.quote(str(busybox)),
        kept=" ".join(shlex.quote(str(path)) for path in {directory, busybox.parents[2], modules}),
        directory=shlex.quote(str(directory)),
        exports="\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
        command=shlex.join(command),
    )
