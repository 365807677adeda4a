"""The rows that ingest reads before it decides and writes back after: one struct per table, one upsert for all.

A struct's fields are the table's columns, by name and in order (a test says so).
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import structs
from sqlalchemy import Connection, Insert, Select, Table, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite

from hwdb import models
from hwdb.ingest_stream import Stream


class HostRow(msgspec.Struct):
    """Of `models.host`."""

    host_id: str
    site: str = ""
    hostname: str = ""
    labels: str = "{}"
    online: bool = False
    start: str = ""
    epoch: str = ""
    boot_id: str = ""
    agent_version: str = ""
    observe: bool = True
    collectors: str = "[]"
    tuners: str = "[]"
    fingerprint: str = "{}"
    birth_ms: int = 0
    first_ms: int = 0
    last_ms: int = 0
    generation: int = 0
    vendor: str = ""
    product: str = ""
    cpu: str = ""
    threads: int = 0
    memory_kb: int = 0
    nics: int = 0
    findings: int = 0
    severity: str = ""
    desired_generation: int = 0
    desired_hash: str = ""
    reported_generation: int = 0
    reported_status: str = ""


class StartRow(msgspec.Struct):
    """Of `models.host_start`."""

    host_id: str
    start: str
    admission: str = ""
    online: bool | None = None
    at_ms: int = 0


class CollectorRow(msgspec.Struct):
    """Of `models.collector_state`."""

    host_id: str
    collector: str
    at_ms: int = 0
    status: str = ""
    reason: str = ""
    duration_ms: float = 0.0
    epoch: str = ""
    seq: int = 0
    digest: str = ""
    facts_epoch: str = ""
    facts_seq: int = 0
    samples_epoch: str = ""
    samples_seq: int = 0
    samples_ms: int = 0
    samples: str = ""  # JSON; "" leaves those in the table


class ComponentRow(msgspec.Struct):
    """Of `models.component`."""

    host_id: str
    kind: str
    key: str
    collector: str
    data: str
    first_ms: int = 0
    changed_ms: int = 0
    removed_ms: int | None = None


Row = HostRow | StartRow | CollectorRow | ComponentRow | Stream
R = TypeVar("R", HostRow, StartRow, CollectorRow, ComponentRow, Stream)

TABLES: dict[type[Row], Table] = {
    HostRow: models.host,
    StartRow: models.host_start,
    CollectorRow: models.collector_state,
    ComponentRow: models.component,
    Stream: models.stream,
}


def _of_hosts(table: Table) -> Select[Any]:
    keys = list(table.primary_key.columns)
    wanted = [column for column in table.columns if column is not models.collector_state.c.samples]
    return select(*wanted).where(table.c.host_id.in_(bindparam("hosts", expanding=True))).order_by(*keys)


def _upsert(table: Table, dialect: str) -> Insert:
    statement = postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
    keys = [column.name for column in table.primary_key.columns]
    new: dict[str, Any] = {column.name: statement.excluded[column.name] for column in table.columns}
    if "samples" in new:
        new["samples"] = func.coalesce(func.nullif(new["samples"], ""), table.c.samples)
    new = {name: value for name, value in new.items() if name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=new)


SELECTS = {row: _of_hosts(table) for row, table in TABLES.items()}
UPSERTS = {
    (table.name, dialect): _upsert(table, dialect)
    for table in (*TABLES.values(), models.reported, models.result)
    for dialect in ("sqlite", "postgresql")
}


def _count_up(dialect: str) -> Insert:
    table = models.unknown_item
    statement = postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["host_id", "collector", "kind"],
        set_={"raw": new.raw, "reason": new.reason, "at_ms": new.at_ms, "seen": table.c.seen + new.seen},
    )


COUNTS = {dialect: _count_up(dialect) for dialect in ("sqlite", "postgresql")}


def load(conn: Connection, row: type[R], hosts: Sequence[str], *, lock: bool = False) -> list[R]:
    """The rows of these hosts, by primary key; with `lock`, nobody else changes them until the transaction ends."""
    statement = SELECTS[row].with_for_update() if lock and conn.dialect.name == "postgresql" else SELECTS[row]
    return [row(*values) for values in conn.execute(statement, {"hosts": list(hosts)})]


def save(conn: Connection, row: type[Row], changed: Iterable[Row]) -> None:
    """Insert or overwrite these rows, in the order of their keys."""
    overwrite(conn, TABLES[row], [structs.asdict(one) for one in changed])


def overwrite(conn: Connection, table: Table, parameters: list[dict[str, Any]]) -> None:
    """Insert or overwrite rows given as whole dicts."""
    if parameters:
        conn.execute(UPSERTS[table.name, conn.dialect.name], parameters)


def save_unknown(conn: Connection, parameters: list[dict[str, Any]]) -> None:
    """Insert, or add to the count of, items put aside (all columns of `models.unknown_item`)."""
    if parameters:
        conn.execute(COUNTS[conn.dialect.name], parameters)
