# SPDX-License-Identifier: Apache-2.0
"""The store: a directory for its owner only, with a marker that tells it from any other directory, and the chains."""

import json
import os
import re
from pathlib import Path
from typing import Final, cast

from icecore.errors import NoSuchCheckpoint, StoreUnusable, UsageError
from icecore.storage.chain import Chain
from icecore.storage.durable import DIR_MODE, make_directory, replace_file, store_errors

MARKER: Final = "icecore-store"
CHAINS: Final = "chains"
FORMAT: Final = "icecore-store"
VERSION: Final = 1
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_MAX_MARKER: Final = 4096


def check_name(name: str) -> str:
    """The name of a chain, fit to be a directory. Raises UsageError."""
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"{name!r} cannot be the name of a chain",
            "use 1 to 64 of the letters A-Z a-z 0-9 . _ - and begin with neither . nor -",
        )
    return name


class Store:
    """Opened by ``Store.open``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: Path | str, create: bool = False) -> "Store":
        """Raises StoreUnusable if there is no store, or something else, or one of a newer version.

        With ``create`` a missing or empty directory becomes a store.
        """
        store = cls(Path(path))
        with store_errors(store.path):
            if create and not (store.path / MARKER).exists():
                store._create()
            store._check_marker()
        return store

    def names(self) -> list[str]:
        """Of all chains, sorted."""
        with store_errors(self.path):
            entries = list(os.scandir(self.path / CHAINS))
        return sorted(
            entry.name for entry in entries if _NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
        )

    def chain(self, name: str) -> Chain:
        """Raises NoSuchCheckpoint, UsageError."""
        directory = self.path / CHAINS / check_name(name)
        if not directory.is_dir():
            raise NoSuchCheckpoint(f"store {self.path} has no chain {name}", "icecore status lists what there is")
        return Chain(directory, name)

    def create_chain(self, name: str) -> Chain:
        """The chain of that name, made if it is not there. Raises UsageError, StoreUnusable."""
        directory = self.path / CHAINS / check_name(name)
        with store_errors(directory):
            make_directory(directory)
        return Chain(directory, name)

    def _create(self) -> None:
        self.path.mkdir(mode=DIR_MODE, parents=True, exist_ok=True)
        if any(name not in (CHAINS, f".{MARKER}.tmp") for name in os.listdir(self.path)):
            raise StoreUnusable(f"{self.path}: neither a store nor empty", "name an empty or a new directory")
        self.path.chmod(DIR_MODE)
        make_directory(self.path / CHAINS)
        replace_file(self.path / MARKER, json.dumps({"format": FORMAT, "version": VERSION}).encode() + b"\n")

    def _check_marker(self) -> None:
        try:
            with open(self.path / MARKER, "rb") as file:
                marker = json.loads(file.read(_MAX_MARKER))
        except (FileNotFoundError, NotADirectoryError):
            raise StoreUnusable(
                f"{self.path}: there is no store here", "name one with --store, or set ICECORE_STORE"
            ) from None
        except (ValueError, RecursionError):
            raise self._not_a_store() from None
        if not isinstance(marker, dict) or cast("dict[str, object]", marker).get("format") != FORMAT:
            raise self._not_a_store()
        version = cast("dict[str, object]", marker).get("version")
        if version != VERSION:
            raise StoreUnusable(
                f"{self.path}: the store has format version {version}; this icecore knows {VERSION}",
                "use the icecore release that made it, or a newer one",
            )

    def _not_a_store(self) -> StoreUnusable:
        return StoreUnusable(
            f"{self.path}: {MARKER} does not look like that of a store", "name another directory with --store"
        )
