"""`/proc/net/bonding`, the only place with both ends of a LACP session; its rows repeat names from block to block."""

import re
from typing import NamedTuple

from collectors.sysfs import parse_number
from wire.facts import LacpPort
from wire.text import clean

FOLDER = "/proc/net/bonding"
LACP_BITS = (  # IEEE 802.1AX, 6.4.2.3: of the actor's state, from bit 0
    "activity",
    "timeout",
    "aggregation",
    "synchronization",
    "collecting",
    "distributing",
    "defaulted",
    "expired",
)
MODES = {  # what the driver prints -> what it takes, as in sysfs
    "load balancing (round-robin)": "balance-rr",
    "fault-tolerance (active-backup)": "active-backup",
    "load balancing (xor)": "balance-xor",
    "fault-tolerance (broadcast)": "broadcast",
    "IEEE 802.3ad Dynamic link aggregation": "802.3ad",
    "transmit load balancing": "balance-tlb",
    "adaptive load balancing": "balance-alb",
}
LACP = "802.3ad"
MOST_PORTS = 256
_NO_MAC = "00:00:00:00:00:00"
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_ACTOR, _PARTNER = "details actor lacp pdu", "details partner lacp pdu"

Rows = dict[str, str]


class ToldPort(NamedTuple):
    """The rows about one port, and of the two ends of its LACP session."""

    ifname: str
    rows: Rows
    actor: Rows
    partner: Rows


class Told(NamedTuple):
    """The rows about a bond, and its ports in their order."""

    rows: Rows
    ports: list[ToldPort]


def parse_bonding(text: str) -> Told:
    """The blocks of one file; lines that are none of a bond's are passed over."""
    told = Told({}, [])
    rows = told.rows
    for line in text.splitlines():
        name, colon, value = (part.strip() for part in line.partition(":"))
        if name == "Slave Interface" and len(told.ports) < MOST_PORTS:
            told.ports.append(ToldPort(clean(value, 15), {}, {}, {}))
            rows = told.ports[-1].rows
        elif name in (_ACTOR, _PARTNER) and told.ports:
            rows = told.ports[-1].actor if name == _ACTOR else told.ports[-1].partner
        elif colon:
            rows[name] = clean(value)
    return told


def mode(rows: Rows) -> str:
    """The bond's mode as sysfs spells it, "" for an unknown one."""
    said = rows.get("Bonding Mode", "")
    return next((word for text, word in MODES.items() if said.startswith(text)), "")


def number(rows: Rows, *names: str) -> int | None:
    """The number in the first of these rows that is there; None for what is none."""
    return next((parse_number(rows[name]) for name in names if name in rows), None)


def word(rows: Rows, name: str) -> str:
    """The first word of a row; "" for "None"."""
    first = rows.get(name, "").partition(" ")[0]
    return "" if first == "None" else first


def mac(text: str) -> str:
    """A hardware address in lower case; "" for none and for zeros."""
    lower = text.lower()
    return lower if _MAC.fullmatch(lower) and lower != _NO_MAC else ""


def parse_end(rows: Rows) -> LacpPort | None:
    """One end of a session, None where the driver prints none (it needs root)."""
    if not rows:
        return None
    state = number(rows, "port state")
    return LacpPort(
        system=mac(rows.get("system mac address", "")),
        system_priority=number(rows, "system priority"),
        key=number(rows, "port key", "oper key"),
        port=number(rows, "port number"),
        port_priority=number(rows, "port priority"),
        state=None if state is None else lacp_state(state),
    )


def lacp_state(state: int) -> list[str]:
    """The names of the bits that are set."""
    return [name for bit, name in enumerate(LACP_BITS) if state >> bit & 1]
