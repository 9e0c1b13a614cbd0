# SPDX-License-Identifier: Apache-2.0
"""What a socket is, for people: family, type, addresses, state, from /proc/PID/net, read only if there are any."""

import socket
import struct
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet

UNIX_TYPES = {1: "stream", 2: "datagram", 5: "seqpacket"}
TCP_STATES = {1: "connected", 10: "listening"}
"""enum in net/tcp_states.h; the others are on their way to one of these or to the end."""
NETLINK = "netlink socket"


def describe_sockets(pid: int, inodes: AbstractSet[int]) -> dict[int, str]:
    """A phrase for each of these sockets that a table under /proc/PID/net knows."""
    found: dict[int, str] = {}
    for name, (column, phrase) in TABLES.items():
        if len(found) == len(inodes):
            break
        for words in rows(f"/proc/{pid}/net/{name}"):
            inode = int(words[column]) if len(words) > column and words[column].isdigit() else 0
            if inode in inodes:
                found[inode] = phrase(words)
    return found


def rows(path: str) -> Iterator[list[str]]:
    """The lines of a table below its heading; none if this kernel has no such protocol."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            next(file, None)
            yield from (line.split() for line in file)
    except OSError:
        return


def unix_phrase(words: list[str]) -> str:
    """Num RefCount Protocol Flags Type St Inode [Path]; ``__SO_ACCEPTCON`` is 0x10000."""
    kind = UNIX_TYPES.get(int(words[4], 16), "")
    state = " listening at" if int(words[3], 16) & 0x10000 else ""
    path = f" {words[7]}" if len(words) > 7 else ""
    return f"unix {kind} socket{state}{path}"


def inet_phrase(protocol: str) -> Callable[[list[str]], str]:
    def phrase(words: list[str]) -> str:
        local, remote = address(words[1]), address(words[2])
        if words[2].endswith(":0000"):
            state = "listening at " if TCP_STATES.get(int(words[3], 16)) == "listening" else "at "
            return f"{protocol} socket {state}{local}"
        return f"{protocol} socket {local} connected to {remote}"

    return phrase


def address(text: str) -> str:
    """``0100007F:1F90`` is 127.0.0.1:8080: each 32-bit word of the address in the machine's byte order."""
    words, _, port = text.partition(":")
    raw = struct.pack(f"={len(words) // 8}I", *(int(words[i : i + 8], 16) for i in range(0, len(words), 8)))
    if len(raw) == 4:
        return f"{socket.inet_ntop(socket.AF_INET, raw)}:{int(port, 16)}"
    return f"[{socket.inet_ntop(socket.AF_INET6, raw)}]:{int(port, 16)}"


TABLES: dict[str, tuple[int, Callable[[list[str]], str]]] = {
    "unix": (6, unix_phrase),
    "tcp": (9, inet_phrase("TCP")),
    "tcp6": (9, inet_phrase("TCP")),
    "udp": (9, inet_phrase("UDP")),
    "udp6": (9, inet_phrase("UDP")),
    "raw": (9, inet_phrase("raw IP")),
    "raw6": (9, inet_phrase("raw IP")),
    "icmp": (9, inet_phrase("ICMP")),
    "netlink": (9, lambda _: NETLINK),
    "packet": (8, lambda _: "packet socket"),
}
"""Under /proc/PID/net: the column of the inode and the phrase."""
