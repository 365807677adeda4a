"""Whose sockets speak to the kernel: the process behind an announcement, as far as that can be known.

rtnetlink says which socket asked for a change; its port is the process id of the first socket of a process. ethtool's
announcements do not say it, so all that can be told is who had a generic netlink socket in the moment it was read and
had none before.
"""

import os
from pathlib import Path

from machine import netlink

_SOCKETS = "/proc/thread-self/net/netlink"


def process(port: int) -> str:
    """The name of the process whose first netlink socket this is; "" when it is gone or the port is no process id."""
    if not 0 < port < 1 << 22:  # PID_MAX_LIMIT; further sockets of a process have ports beyond it
        return ""
    try:
        return Path(f"/proc/{port}/comm").read_text(errors="replace").strip()[:32]
    except OSError:
        return ""


def speakers() -> frozenset[int]:
    """Ports of all generic netlink sockets of this network namespace but this process's own and the kernel's."""
    try:
        text = Path(_SOCKETS).read_text()
    except OSError:
        return frozenset()
    return parse_speakers(text) - {os.getpid()}


def parse_speakers(text: str) -> frozenset[int]:
    """The ports of /proc/net/netlink's lines of generic netlink; port 0 is the kernel."""
    rows = (line.split() for line in text.splitlines()[1:])
    generic = (row[2] for row in rows if len(row) > 2 and row[1] == str(netlink.GENERIC))
    return frozenset(int(port) for port in generic if port.isdigit() and port != "0")
