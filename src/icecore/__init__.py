# SPDX-License-Identifier: Apache-2.0
"""Incremental checkpoints of running processes, and their restore."""

__version__ = "0.1.0"
