# SPDX-License-Identifier: Apache-2.0
"""The service around the checkpoint engine: socket, authorisation, schedule. ``docs/protocol.md`` is its face."""
