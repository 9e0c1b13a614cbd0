# SPDX-License-Identifier: Apache-2.0
"""The tests of ``vm.suites`` under each kernel: a kernel that cannot be had, or does not boot, is a failure."""

import faulthandler
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from support.summary import Record, record_again
from support.torture_drawn import WIDE, keep
from vm import machine
from vm.kernels import KERNELS, kernel_named
from vm.suites import SUITES

TORTURE = (int(os.environ.get("ICECORE_TORTURE_SEED", "0")), int(os.environ.get("ICECORE_TORTURE_OPERATIONS", "20000")))
PYTEST = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--color=no", "-q")


@dataclass(frozen=True, slots=True)
class Report:
    """How a guest's pytest ended."""

    status: int
    text: str

    @property
    def summary(self) -> str:
        """Its last line."""
        return self.text.strip().rpartition("\n")[2]


def boot(name: str) -> Report:
    """Run a kernel's suite."""
    output = bytearray()
    suite = SUITES[name]
    status = machine.run(kernel_named(name), [*PYTEST, *suite.words], output=output.extend, timeout=suite.seconds)
    return Report(status, output.decode(errors="replace"))


@pytest.fixture(scope="module")
def report(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Report]]:
    """Boot the kernels that were selected, all at once: a guest uses one processor, and together they are done the
    sooner the fewer of them end alone. Hand out each one's report."""
    chosen = [name for name in SUITES if any(item.name.endswith(f"[{name}]") for item in request.session.items)]
    keep(WIDE, *TORTURE)
    with ThreadPoolExecutor(len(SUITES)) as pool:
        futures: dict[str, Future[Report]] = {name: pool.submit(boot, name) for name in chosen}
        yield lambda name: futures[name].result()


def test_every_kernel_has_a_suite() -> None:
    assert SUITES.keys() == KERNELS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", SUITES)
def test_the_suite_passes_under(
    name: str, report: Callable[[str], Report], capsys: pytest.CaptureFixture[str], record_property: Record
) -> None:
    faulthandler.cancel_dump_traceback_later()  # pytest's dump after faulthandler_timeout: this is no hang, but a guest
    found = report(name)
    figures = record_again(found.text, record_property)
    with capsys.disabled():
        print(f"\nLinux {name}: {found.summary}")
    assert found.status == 0, found.text
    assert figures, "the torture, or the table of events, did not run"
