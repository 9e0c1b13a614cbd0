# SPDX-License-Identifier: Apache-2.0
"""``icecore doctor``."""

import argparse
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

from icecore.cli import output
from icecore.cli.daemon import connect
from icecore.cli.fields import text
from icecore.cli.options import Common
from icecore.errors import IcecoreError, KernelLacks

CHECKPOINT = frozenset({"ptrace", "process_vm_readv", "injection", "PAGEMAP_SCAN"})
"""The abilities without which no checkpoint can be taken; all others widen or quicken what is possible."""
RESTORE = frozenset({"ptrace", "CAP_CHECKPOINT_RESTORE", "clone3 set_tid"})


class Doctor:
    """What this kernel and this user can do, each found by trying it, and what is missing for what.

    The exit status is 0 if processes can be checkpointed and restored here, else 6.
    """

    name: ClassVar[str] = "doctor"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        pass

    def run(self, arguments: argparse.Namespace, common: Common) -> int:
        del arguments
        from icecore.daemon.doctor import probe_all

        abilities = probe_all()
        present = {ability.name for ability in abilities if ability.present}
        verdict = {"checkpoint": present >= CHECKPOINT, "restore": present >= RESTORE}
        places = {"store": _store(common.store), "socket": _socket(common)}
        if common.json:
            output.document({**verdict, "abilities": [asdict(ability) for ability in abilities], **places})
        else:
            rows = [["yes" if one.present else "no", one.name, one.detail, one.needed_for] for one in abilities]
            output.table(("", "ABILITY", "FOUND", "NEEDED FOR"), rows, left=4)
            output.fields([("", ""), *places.items(), *_words(verdict)])
        return 0 if all(verdict.values()) else KernelLacks.exit_code


def _words(verdict: Mapping[str, bool]) -> list[tuple[str, str]]:
    return [
        (what, "possible" if possible else "NOT possible here, for this user") for what, possible in verdict.items()
    ]


def _store(path: Path) -> str:
    from icecore.storage.store import Store

    try:
        if not path.exists():
            return f"{path}: not there yet, made by the first checkpoint"
        chains = len(Store.open(path).names())
    except OSError as error:
        return f"{path}: {error.strerror}"
    except IcecoreError as error:
        return error.message
    writable = "" if os.access(path, os.W_OK) else ", not writable"
    return f"{path}: {chains} chains{writable}"


def _socket(common: Common) -> str:
    try:
        with connect(common) as daemon:
            return f"{common.socket}: icecored {text(daemon.call('GetFeatures'), 'version')} answers"
    except IcecoreError as error:
        return error.message
