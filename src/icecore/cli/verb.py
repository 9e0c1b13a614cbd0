# SPDX-License-Identifier: Apache-2.0
"""The face of a verb."""

import argparse
from typing import ClassVar, Protocol

from icecore.cli.options import Common


class Verb(Protocol):
    """One verb of the command line. The class docstring is its help; the first line alone appears in the list."""

    name: ClassVar[str]

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declares what the verb takes beside the common options."""
        ...

    def run(self, arguments: argparse.Namespace, common: Common) -> int:
        """Does it; returns the exit status. Expected failures are raised as IcecoreError."""
        ...
