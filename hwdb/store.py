"""What people ask of the inventory: hosts and what is in them. Every function takes any connection of `hwdb.db`.

Imports stay light (no SQLAlchemy): `rackhand hosts` over 10,000 hosts is one scan of one table.
"""

from typing import TYPE_CHECKING, Any

import msgspec

from hwdb.db import rows
from wire.codec import decode
from wire.facts import FACT, Ethtool, Fact, Irq, Nic
from wire.report import Fingerprint

if TYPE_CHECKING:
    from hwdb.db import Conn

_LABELS = msgspec.json.Decoder(dict[str, str])
_NAMES = msgspec.json.Decoder(list[str])
_FINGERPRINT = msgspec.json.Decoder(Fingerprint)
_NO_LABELS = "{}"


class StoreError(Exception):
    """The question has no one answer; the message is one line."""


class UnknownHostError(StoreError):
    """No host has that name or id."""


class AmbiguousHostError(StoreError):
    """Several hosts have that name, or ids that begin so."""


class HostEntry(msgspec.Struct, kw_only=True):
    """One line of the list of hosts."""

    host_id: str
    hostname: str
    site: str
    labels: dict[str, str]
    online: bool
    last_ms: int  # heard of last, by the inventory's clock
    agent_version: str
    observe: bool
    vendor: str
    product: str
    cpu: str
    threads: int
    memory_kb: int
    nics: int  # physical
    findings: int  # open
    severity: str  # the worst of them, "" for none
    generation: int  # of the newest desired document, 0 for none
    status: str  # applied | drifted | failed | reverted | pending, "" without a desired document


class CollectorEntry(msgspec.Struct, kw_only=True):
    """How the newest run of a collector ended."""

    collector: str
    at_ms: int
    status: str
    reason: str
    duration_ms: float


class HostDetail(msgspec.Struct, kw_only=True):
    """Everything about one host but its events and samples."""

    entry: HostEntry
    boot_id: str
    first_ms: int
    birth_ms: int
    tuners: list[str]
    fingerprint: Fingerprint
    collectors: list[CollectorEntry]
    facts: list[Fact]


class NicEntry(msgspec.Struct, kw_only=True):
    """One NIC of the fleet with what ethtool says of it."""

    host_id: str
    hostname: str
    site: str
    labels: dict[str, str]
    nic: Nic
    ethtool: Ethtool | None


_ENTRY = """SELECT host_id, hostname, site, labels, online, last_ms, agent_version, observe, vendor, product, cpu,
 threads, memory_kb, nics, findings, severity, desired_generation, reported_generation, reported_status FROM host"""


def hosts(conn: "Conn") -> list[HostEntry]:
    """Every host, by name."""
    return [_entry(row) for row in rows(conn, f"{_ENTRY} ORDER BY hostname, host_id")]


def _entry(row: tuple[Any, ...]) -> HostEntry:
    return HostEntry(
        host_id=row[0],
        hostname=row[1],
        site=row[2],
        labels=_labels(row[3]),
        online=bool(row[4]),
        last_ms=row[5],
        agent_version=row[6],
        observe=bool(row[7]),
        vendor=row[8],
        product=row[9],
        cpu=row[10],
        threads=row[11],
        memory_kb=row[12],
        nics=row[13],
        findings=row[14],
        severity=row[15],
        generation=row[16],
        status=host_status(*row[16:19]),
    )


def host_status(desired: int, reported: int, status: str) -> str:
    """How a host stands to its newest desired document (generations): "pending" until it reports on that one."""
    if not desired:
        return ""
    return status if reported >= desired and status else "pending"


def _labels(text: str) -> dict[str, str]:
    return {} if text == _NO_LABELS else _LABELS.decode(text)


def resolve(conn: "Conn", name: str) -> str:
    """The host_id for an id, the unique beginning of one, or a hostname; raises StoreError."""
    exact = rows(conn, "SELECT host_id FROM host WHERE host_id = :name", {"name": name})
    named = exact or rows(conn, "SELECT host_id FROM host WHERE hostname = :name ORDER BY host_id", {"name": name})
    found = [row[0] for row in named] or _beginning(conn, name)
    if not found:
        raise UnknownHostError(f"no host {name!r}: neither a hostname nor the beginning of a host id")
    if len(found) > 1:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise AmbiguousHostError(f"{name!r} could be {', '.join(found[:3])}{more}")
    return str(found[0])


def _beginning(conn: "Conn", name: str) -> list[str]:
    if not name:
        return []
    sql = "SELECT host_id FROM host WHERE substr(host_id, 1, :length) = :name ORDER BY host_id"
    return [row[0] for row in rows(conn, sql, {"name": name, "length": len(name)})]


def entry(conn: "Conn", host_id: str) -> HostEntry:
    """One host's line; raises UnknownHostError."""
    found = rows(conn, f"{_ENTRY} WHERE host_id = :host_id", {"host_id": host_id})
    if not found:
        raise UnknownHostError(f"no host with id {host_id!r}")
    return _entry(found[0])


def host(conn: "Conn", host_id: str) -> HostDetail:
    """One host whole; raises UnknownHostError."""
    first = entry(conn, host_id)
    sql = "SELECT boot_id, first_ms, birth_ms, tuners, fingerprint FROM host WHERE host_id = :host_id"
    boot_id, first_ms, birth_ms, tuners, fingerprint = rows(conn, sql, {"host_id": host_id})[0]
    return HostDetail(
        entry=first,
        boot_id=boot_id,
        first_ms=first_ms,
        birth_ms=birth_ms,
        tuners=_NAMES.decode(tuners),
        fingerprint=_FINGERPRINT.decode(fingerprint),
        collectors=collectors(conn, host_id),
        facts=facts(conn, host_id),
    )


def collectors(conn: "Conn", host_id: str) -> list[CollectorEntry]:
    """The collectors of a host, by name."""
    sql = """SELECT collector, at_ms, status, reason, duration_ms FROM collector_state
      WHERE host_id = :host_id ORDER BY collector"""
    return [
        CollectorEntry(collector=row[0], at_ms=row[1], status=row[2], reason=row[3], duration_ms=row[4])
        for row in rows(conn, sql, {"host_id": host_id})
    ]


def facts(conn: "Conn", host_id: str, kind: str = "") -> list[Fact]:
    """The facts of a host (of one kind), by kind and key."""
    sql = """SELECT data FROM component WHERE host_id = :host_id AND removed_ms IS NULL
      AND (:kind = '' OR kind = :kind) ORDER BY kind, key"""
    return [decode(FACT, row[0].encode()) for row in rows(conn, sql, {"host_id": host_id, "kind": kind})]


def irqs(conn: "Conn", host_id: str) -> list[Irq]:
    """The interrupts of a host's NICs, by interface name."""
    found = [fact for fact in facts(conn, host_id, "irq") if isinstance(fact, Irq)]
    return sorted(found, key=lambda irq: irq.ifname)


def nics(conn: "Conn", host_id: str = "") -> list[NicEntry]:
    """Every NIC of the fleet (of one host), by hostname and interface index."""
    sql = """SELECT h.host_id, h.hostname, h.site, h.labels, n.data, e.data FROM component n
      JOIN host h ON h.host_id = n.host_id
      LEFT JOIN component e ON e.host_id = n.host_id AND e.kind = 'ethtool' AND e.key = n.key AND e.removed_ms IS NULL
      WHERE n.kind = 'nic' AND n.removed_ms IS NULL AND (:host_id = '' OR n.host_id = :host_id)"""
    found = [_nic(row) for row in rows(conn, sql, {"host_id": host_id})]
    return sorted(found, key=lambda one: (one.hostname, one.host_id, one.nic.ifindex))


_NIC = msgspec.json.Decoder(Nic)
_ETHTOOL = msgspec.json.Decoder(Ethtool)


def _nic(row: tuple[Any, ...]) -> NicEntry:
    return NicEntry(
        host_id=row[0],
        hostname=row[1],
        site=row[2],
        labels=_labels(row[3]),
        nic=decode(_NIC, row[4].encode()),
        ethtool=decode(_ETHTOOL, row[5].encode()) if row[5] else None,
    )
