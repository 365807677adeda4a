"""What follows from a host's facts: the columns of its list entry, and its findings, opened and closed."""

from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from hwdb import models
from hwdb.ingest_batch import Batch
from hwdb.ingest_messages import clean
from hwdb.ingest_rows import HostRow, saving
from hwdb.store_events import latest
from tuners.findings import findings
from tuners.hostfacts import HostFacts
from wire.facts import FACT, Fact
from wire.policy import Finding

WORST = ("critical", "warning", "info", "")
OPEN = select(models.finding).where(
    models.finding.c.host_id.in_(bindparam("hosts", expanding=True)), models.finding.c.closed_ms.is_(None)
)
CLOSE = update(models.finding).where(models.finding.c.id == bindparam("finding_id"))

Open = dict[tuple[str, str], Any]  # rows by (rule, key)


def derive(batch: Batch, at_ms: int) -> None:
    """Bring list entry and findings of the hosts whose facts changed up to date; collectors are flushed already."""
    hosts = sorted(host for host in batch.stale | batch.counted if batch.hosts.get(host))
    if not hosts:
        return
    opened: dict[str, Open] = {host_id: {} for host_id in hosts}
    for row in batch.conn.execute(OPEN, {"hosts": hosts}):
        opened[row.host_id][row.rule, row.key] = row
    new: list[dict[str, Any]] = []
    gone: list[dict[str, Any]] = []
    for host_id in hosts:
        facts = HostFacts(_facts(batch, host_id))
        host = batch.hosts.get(host_id) or HostRow(host_id)
        summarize(host, facts)
        found = {(one.rule, clean(one.key, 200)): one for one in findings(facts, _latest(batch.conn, host_id))}
        host.findings = len(found)
        host.severity = min((one.severity.value for one in found.values()), key=WORST.index, default="")
        batch.hosts.put(host_id, host)
        new += [_row(host_id, key, one, at_ms) for key, one in found.items() if _differs(opened[host_id].get(key), one)]
        gone += [
            {"finding_id": row.id, "closed_ms": at_ms}
            for key, row in opened[host_id].items()
            if key not in found or _differs(row, found[key])
        ]
    for statement in saving(batch.conn, HostRow, *batch.hosts.take_changed()):
        batch.conn.exec_driver_sql(*statement)
    if gone:
        batch.conn.execute(CLOSE, gone)
    if new:
        batch.conn.execute(models.finding.insert(), new)


def _facts(batch: Batch, host_id: str) -> list[Fact]:
    return [FACT.decode(row.data) for row in batch.components[host_id].values() if row.removed_ms is None]


def _latest(conn: Connection, host_id: str) -> dict[tuple[str, str], float]:
    return {(one.metric, one.key): one.value for one in latest(conn, host_id)}


def summarize(host: HostRow, facts: HostFacts) -> None:
    """What a list of hosts shows, from the facts."""
    if facts.dmi:
        host.vendor, host.product = clean(facts.dmi.vendor, 200), clean(facts.dmi.product, 200)
    if facts.device:
        host.vendor, host.product = clean(facts.device.vendor, 200), clean(facts.device.model, 200)
    if facts.cpu:
        host.cpu, host.threads = clean(facts.cpu.model, 200), _integer(facts.cpu.threads)
    if facts.memory:
        host.memory_kb = _integer(facts.memory.total_kb)
    host.nics = sum(nic.type == "physical" for nic in facts.nics.values())


def _integer(value: int) -> int:
    """Within what a BIGINT column takes, with room."""
    return max(0, min(value, 2**53))


def _differs(row: Any, one: Finding) -> bool:
    """A finding whose words changed is closed and opened again, so that its history can be read."""
    return row is None or (row.text, row.severity) != (clean(one.text), one.severity.value)


def _row(host_id: str, name: tuple[str, str], one: Finding, at_ms: int) -> dict[str, Any]:
    rule, key = name
    words = {"target": clean(one.target), "text": clean(one.text), "remedy": clean(one.remedy)}
    return {"host_id": host_id, "rule": rule, "key": key, "severity": one.severity.value, "opened_ms": at_ms, **words}
