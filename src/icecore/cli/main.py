# SPDX-License-Identifier: Apache-2.0
"""``icecore``: parses the command line, runs the verb, and turns errors into messages and exit statuses."""

import argparse
import inspect
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from icecore import __version__
from icecore.cli import output
from icecore.cli.options import add_common, common
from icecore.cli.verb import Verb
from icecore.cli.verbs.checkpoint import Checkpoint
from icecore.cli.verbs.doctor import Doctor
from icecore.cli.verbs.log import Log
from icecore.cli.verbs.restore import Restore
from icecore.cli.verbs.run import Run
from icecore.cli.verbs.show import Show
from icecore.cli.verbs.status import Status
from icecore.cli.verbs.track import Track
from icecore.cli.verbs.untrack import Untrack
from icecore.errors import IcecoreError, UsageError

VERBS: tuple[Verb, ...] = (
    Run(), Checkpoint(), Track(), Untrack(), Status(), Log(), Show(), Restore(), Doctor(),
)  # fmt: skip

INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """Raises a UsageError where argparse would print and exit."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = Parser(prog="icecore", description="Incremental checkpoints of running processes.", allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"icecore {__version__}")
    add_common(top)
    verbs = top.add_subparsers(title="verbs", metavar="VERB", required=True)
    for verb in VERBS:
        text = inspect.cleandoc(verb.__doc__ or "")
        sub = verbs.add_parser(
            verb.name,
            help=text.splitlines()[0],
            description=text,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        verb.add_arguments(sub)
        add_common(sub)
        sub.set_defaults(verb=verb)
    return top


def run(arguments: Sequence[str]) -> int:
    """Runs one command line and returns its exit status; prints what went wrong."""
    try:
        parsed = parser().parse_args(arguments)
        verb: Verb = parsed.verb
        return verb.run(parsed, common(parsed))
    except IcecoreError as error:
        output.error(error, as_json=wants_json(arguments))
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether --json was given, even on a command line that does not parse."""
    mine = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in mine


def main() -> NoReturn:
    """The entry point."""
    try:
        try:
            status = run(sys.argv[1:])
        finally:  # --help leaves by SystemExit
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader (head, less) has seen enough. Python must not find the pipe broken again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = 0
    sys.exit(status)
