# SPDX-License-Identifier: Apache-2.0
"""Acting inside another process: stopping all its threads, and making system calls in its name that undo themselves.

One floor above ``kernel``; capture and restore both stand on it. Everything of one ``freeze`` happens in the OS thread
that called it, since a ptrace session belongs to a thread. If that thread or its process dies at any instant, the
kernel lets the target go, and whatever had been injected runs to its own end (see ``code``).
"""

from icecore.inject.freeze import Frozen, freeze
from icecore.inject.table import Call, Data, Table, TableResult, run_table, run_tables
from icecore.inject.tracee import Tracee
from icecore.inject.uffd import steal_userfaultfd

__all__ = [
    "Call",
    "Data",
    "Frozen",
    "Table",
    "TableResult",
    "Tracee",
    "freeze",
    "run_table",
    "run_tables",
    "steal_userfaultfd",
]
