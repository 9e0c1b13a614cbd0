# SPDX-License-Identifier: Apache-2.0
"""User, groups, capabilities, limits and the like are those of the original, in every thread."""

import os
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from support.moment import Moment, moment_of, moment_of_c
from support.programs import c_program

from icecore.kernel.procfs import read_stat, read_status, thread_ids
from icecore.restore import restore

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
NOBODY = 65534


def test_another_users_process_is_that_users_again() -> None:
    """Every thread of it: credentials belong to threads."""
    moment = moment_of_c("threads", user=NOBODY)
    wanted = moment.snapshot.process.credentials
    assert wanted.uids == (NOBODY,) * 4
    with moment.restored() as again:
        for tid in thread_ids(again.pid):
            status = read_status(again.pid, tid)
            assert (status.uids, status.gids, status.groups) == (wanted.uids, wanted.gids, wanted.groups)
            assert (status.cap_prm, status.cap_eff, status.cap_inh, status.cap_amb) == (0, 0, 0, 0)
            assert status.cap_bnd == wanted.cap_bounding
        again.expect("ok", "check")
        assert os.stat(f"/proc/{again.pid}/maps").st_uid == NOBODY  # dumpable


SETPRIV = shutil.which("setpriv") or ""


@pytest.mark.skipif(not SETPRIV, reason="no setpriv: apt-get install util-linux")
@pytest.mark.parametrize(
    "options",
    [
        ["--no-new-privs"],
        ["--bounding-set", "-sys_boot,-net_raw", "--inh-caps", "+chown"],
        ["--reuid", "1234", "--regid", "1235", "--groups", "7,8", "--inh-caps", "+chown", "--ambient-caps", "+chown"],
        ["--ruid", "1234", "--clear-groups"],
        ["--securebits", "+noroot"],
    ],
    ids=lambda options: options[0],
)
def test_each_part_of_the_credentials(options: list[str]) -> None:
    moment = moment_of([SETPRIV, *options, c_program("counter")])
    before = moment.snapshot.process
    with moment.restored() as again:
        status = read_status(again.pid)
        c = before.credentials
        assert (status.uids, status.gids, status.groups) == (c.uids, c.gids, c.groups)
        assert (status.cap_inh, status.cap_prm, status.cap_eff) == (c.cap_inheritable, c.cap_permitted, c.cap_effective)
        assert (status.cap_bnd, status.cap_amb) == (c.cap_bounding, c.cap_ambient)
        assert status.no_new_privs == c.no_new_privs
        again.expect("ok", "check")


def test_limits_are_the_process_own(threads: Moment) -> None:
    with threads.restored() as again:
        for limit in threads.snapshot.process.limits:
            assert resource.prlimit(again.pid, limit.resource) == (limit.soft, limit.hard)


@pytest.mark.parametrize("detach_session", [False, True])
def test_session_and_group(threads: Moment, *, detach_session: bool) -> None:
    """One that led nothing joins the caller's, unless it is to have its own."""
    restored = restore(threads.snapshot, detach_session=detach_session)
    stat = read_stat(restored.pid)
    os.kill(restored.pid, 9)
    os.waitpid(restored.pid, 0)
    os.close(restored.pidfd)
    own = (restored.pid, restored.pid)
    assert (stat.session, stat.pgrp) == (own if detach_session else (os.getsid(0), os.getpgid(0)))


@pytest.mark.parametrize("leader", ["session", "group"])
def test_leader_leads_again(threads: Moment, leader: str) -> None:
    process = threads.snapshot.process
    group = replace(process, process_group=process.pid, session=process.pid if leader == "session" else process.session)
    restored = restore(replace(threads.snapshot, process=group))
    stat = read_stat(restored.pid)
    os.kill(restored.pid, 9)
    os.waitpid(restored.pid, 0)
    os.close(restored.pidfd)
    assert stat.pgrp == restored.pid
    assert (stat.session == restored.pid) == (leader == "session")


def test_surroundings(tmp_path: Path) -> None:
    """Directory, umask, name, program, arguments, environment as /proc shows them."""
    moment = moment_of_c("files", tmp_path)
    before = moment.snapshot.process
    with moment.restored() as again:
        where = Path(f"/proc/{again.pid}")
        assert os.readlink(where / "cwd") == before.cwd
        assert os.readlink(where / "exe") == before.exe
        assert read_status(again.pid).umask == before.umask
        assert read_stat(again.pid).comm == before.comm
        assert (where / "auxv").read_bytes() == before.mm.auxv
        assert (where / "cmdline").read_bytes().split(b"\0")[1] == os.fsencode(tmp_path)
        assert b"LC_ALL=C.UTF-8" in (where / "environ").read_bytes().split(b"\0")
        assert not {str(fd) for file in before.files for fd in file.fds} ^ set(os.listdir(where / "fd"))
