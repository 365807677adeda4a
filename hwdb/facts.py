"""Hosts as policies, conditions and screens see them: their facts in one view, many hosts at a time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from hwdb import store, store_events, store_policy
from hwdb.db import rows
from hwdb.store import HostDetail
from hwdb.store_events import FindingEntry, LatestEntry
from tuners.hostfacts import HostFacts
from tuners.select import Condition, nic_fits
from wire.codec import decode
from wire.facts import FACT, Ethtool, Fact, Irq, Nic, Queue
from wire.policy import Reported

if TYPE_CHECKING:
    from hwdb.db import Conn

CHUNK = 200  # hosts whose facts are in memory at a time

_LABELS = msgspec.json.Decoder(dict[str, str])
_IRQ = msgspec.json.Decoder(Irq)


class HostView(NamedTuple):
    """A host as policies and conditions see it."""

    site: str
    host_id: str
    hostname: str
    labels: Mapping[str, str]
    facts: HostFacts
    desired: str  # its newest `wire.policy.Desired` as JSON, "" without one


class HostPage(msgspec.Struct, kw_only=True):
    """Everything about one host on one page."""

    host: HostDetail
    findings: list[FindingEntry]
    reported: Reported | None
    samples: list[LatestEntry]  # the newest of each series


class NicLine(msgspec.Struct):
    """One NIC and what belongs to it."""

    host_id: str
    hostname: str
    nic: Nic
    ethtool: Ethtool | None
    irq: Irq | None


class IrqLine(msgspec.Struct):
    """One interrupt of a NIC."""

    ifname: str
    source: str
    queue: Queue


def read_hosts(conn: "Conn", host_ids: Iterable[str] | None = None) -> Iterator[HostView]:
    """The hosts (None: all) with their facts, by id; a chunk of them is in memory at a time."""
    known = host_ids if host_ids is not None else (row[0] for row in rows(conn, "SELECT host_id FROM host"))
    wanted = sorted(known)
    for start in range(0, len(wanted), CHUNK):
        yield from _chunk(conn, wanted[start : start + CHUNK])


def _chunk(conn: "Conn", host_ids: Sequence[str]) -> Iterator[HostView]:
    names = {f"h{number}": host_id for number, host_id in enumerate(host_ids)}
    among = ", ".join(f":{name}" for name in names)
    facts: dict[str, list[Fact]] = {}
    sql = f"SELECT host_id, data FROM component WHERE removed_ms IS NULL AND host_id IN ({among})"  # noqa: S608 - parameters
    for host_id, data in rows(conn, sql, names):
        facts.setdefault(host_id, []).append(decode(FACT, data.encode()))
    sql = (
        "SELECT h.site, h.host_id, h.hostname, h.labels, d.document FROM host h LEFT JOIN desired d"  # noqa: S608
        f" ON d.host_id = h.host_id AND d.generation = h.desired_generation WHERE h.host_id IN ({among}) ORDER BY 2"
    )
    for site, host_id, hostname, labels, document in rows(conn, sql, names):
        view = HostFacts(facts.get(host_id, []))
        yield HostView(site, host_id, hostname, _LABELS.decode(labels), view, document or "")


def page(conn: "Conn", host_id: str) -> HostPage:
    """Everything about one host; raises UnknownHostError."""
    return HostPage(
        host=store.host(conn, host_id),
        findings=store_events.findings(conn, host_id),
        reported=store_policy.reported(conn, host_id),
        samples=store_events.latest(conn, host_id),
    )


def nic_lines(conn: "Conn", conditions: Sequence[Condition]) -> list[NicLine]:
    """NICs that fit every condition, by host; without conditions the physical ones."""
    sql = "SELECT host_id, key, data FROM component WHERE kind = 'irq' AND removed_ms IS NULL"
    irqs = {(host_id, key): data for host_id, key, data in rows(conn, sql)}
    return [
        NicLine(one.host_id, one.hostname, one.nic, one.ethtool, _irq(irqs.get((one.host_id, one.nic.key))))
        for one in store.nics(conn)
        if (nic_fits(conditions, one.nic, one.ethtool) if conditions else one.nic.type == "physical")
    ]


def _irq(data: str | None) -> Irq | None:
    return decode(_IRQ, data.encode()) if data else None


def irq_lines(conn: "Conn", host_id: str) -> list[IrqLine]:
    """The interrupts of a host's NICs, by NIC and number."""
    return [
        IrqLine(irq.ifname, irq.source, queue)
        for irq in store.irqs(conn, host_id)
        for queue in sorted(irq.queues, key=lambda queue: queue.irq)
    ]
