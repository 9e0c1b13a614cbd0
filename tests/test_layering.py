# SPDX-License-Identifier: Apache-2.0
"""The shape of the package: which floor may import which, what is wrapped once, where the doors lead."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "icecore"

MAY_IMPORT = {
    "__init__": set[str](),
    "errors": set[str](),
    "kernel": set[str](),
    "storage": {"errors"},
    "varlink": {"errors"},
    "inject": {"kernel", "errors"},
    "daemon": {"inject", "kernel", "storage", "varlink", "errors"},
    "restore": {"inject", "kernel", "storage", "errors"},
    "cli": {"daemon", "restore", "inject", "kernel", "storage", "varlink", "errors"},
}

ONLY_IN = {
    "ctypes": "kernel/",
    "msgpack": "storage/codec.py",
    "zstandard": "storage/zstd.py",
    "pyroute2": "daemon/",
    "trio": "daemon/",
    "rich": "cli/",
}

SOURCES = sorted(PACKAGE.rglob("*.py"))
EVERY_FILE = sorted(file for top in ("src", "tests", "demo", "bench") for file in (ROOT / top).rglob("*.py"))


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


def floor(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def imports(file: Path) -> frozenset[str]:
    """Absolute names of all modules that the file imports, wherever in it."""
    return frozenset(name for node in ast.walk(ast.parse(file.read_bytes())) for name in imported_names(node))


def imported_names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative import"
        assert node.module is not None
        if node.module == "icecore":
            yield from (f"icecore.{alias.name}" for alias in node.names if alias.name != "__version__")
        else:
            yield node.module


def floors_imported(file: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(file) if name.startswith("icecore.")}


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_arrows_point_down(file: Path) -> None:
    assert floors_imported(file) <= MAY_IMPORT[floor(file)] | {floor(file)}


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_what_is_wrapped_once_is_imported_once(file: Path) -> None:
    where = str(file.relative_to(PACKAGE))
    for module in {name.split(".")[0] for name in imports(file)} & ONLY_IN.keys():
        assert where.startswith(ONLY_IN[module]), f"{module} belongs in {ONLY_IN[module]}"


def test_dependencies_are_those_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {str(line).split(">")[0] for line in project["dependencies"]}
    imported = {name.split(".")[0] for file in SOURCES for name in imports(file)}
    assert imported - sys.stdlib_module_names - {"icecore"} == declared


@pytest.mark.parametrize("file", EVERY_FILE, ids=name_of)
def test_every_file_names_its_licence(file: Path) -> None:
    assert "SPDX-License-Identifier: Apache-2.0" in "\n".join(file.read_text().splitlines()[:2])


@pytest.mark.parametrize("door", ["daemon", "restore", "storage"])
def test_doors_are_relative_links(door: str) -> None:
    assert (ROOT / door).readlink() == Path("src/icecore") / door


@pytest.mark.parametrize("file", EVERY_FILE, ids=name_of)
def test_nobody_imports_through_a_door(file: Path) -> None:
    assert not {name.split(".")[0] for name in imports(file)} & {"daemon", "restore", "storage", "kernel", "cli"}
