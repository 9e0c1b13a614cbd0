# SPDX-License-Identifier: Apache-2.0
"""Where store and socket are when nobody says: root's in the system's places, others' in their own."""

import os
from pathlib import Path

SYSTEM_STORE = Path("/var/lib/icecore")
SYSTEM_SOCKET = Path("/run/icecore/icecore.sock")


def default_store() -> Path:
    """$ICECORE_STORE, else /var/lib/icecore for root and $XDG_STATE_HOME/icecore (~/.local/state) for others."""
    if given := os.environ.get("ICECORE_STORE"):
        return Path(given)
    if os.geteuid() == 0:
        return SYSTEM_STORE
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "icecore"


def default_socket() -> Path:
    """$ICECORE_SOCKET, else /run/icecore/icecore.sock for root and $XDG_RUNTIME_DIR/icecore.sock for others."""
    if given := os.environ.get("ICECORE_SOCKET"):
        return Path(given)
    if os.geteuid() == 0:
        return SYSTEM_SOCKET
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}") / SYSTEM_SOCKET.name
