"""The rows that ingest reads before it decides and writes back after: one struct per table, one upsert for all.

A struct's fields are the table's columns, by name and in order (a test says so). The SQL is made once from the tables
and goes to the driver with plain tuples: compiling and binding by name took as long as the database itself.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import structs
from sqlalchemy import Connection, Insert, Table
from sqlalchemy.dialects import postgresql, sqlite

from hwdb import models
from hwdb.ingest_pipe import Statement, read_all
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
    moved_ms: str = ""


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
HOT: dict[type[Row], tuple[str, ...]] = {  # what every report changes; when nothing else did, only this is written
    HostRow: ("last_ms",),
    CollectorRow: ("at_ms", "duration_ms", "seq", "samples_seq", "samples_ms", "moved_ms"),
    Stream: ("acked",),
}
COLD: dict[type[Row], Callable[[Row], object]] = {
    row: attrgetter(*(name for name in row.__struct_fields__ if name not in HOT.get(row, ()))) for row in TABLES
}
TYPES = {"BIGINT": "bigint", "INTEGER": "integer", "TEXT": "text", "BOOLEAN": "boolean", "DOUBLE": "float8"}


def _names(table: Table) -> str:
    return ", ".join(column.name for column in table.columns)


def _keys(table: Table) -> str:
    return ", ".join(column.name for column in table.primary_key.columns)


def _among(dialect: str) -> str:
    return "= ANY(%s::text[])" if dialect == "postgresql" else "IN (SELECT value FROM json_each(?))"


def _select(table: Table, dialect: str) -> str:
    """All rows of hosts given as one parameter: a JSON list on SQLite, an array on PostgreSQL."""
    return f"SELECT {_names(table)} FROM {table.name} WHERE host_id {_among(dialect)} ORDER BY {_keys(table)}"  # noqa: S608 - names of our tables


def _upsert(table: Table, dialect: str) -> str:
    """One row per execution on SQLite; all rows as one JSON list of objects on PostgreSQL."""
    keys = {column.name for column in table.primary_key.columns}
    new = ", ".join(f"{column.name} = excluded.{column.name}" for column in table.columns if column.name not in keys)
    typed = ", ".join(f"{column.name} {TYPES[str(column.type)]}" for column in table.columns)
    objects = f"SELECT {_names(table)} FROM json_to_recordset(%s::json) AS given ({typed})"  # noqa: S608
    rows = objects if dialect == "postgresql" else f"VALUES ({_marks(table)})"
    return f"INSERT INTO {table.name} ({_names(table)}) {rows} ON CONFLICT ({_keys(table)}) DO UPDATE SET {new}"


def _update(row: type[Row], dialect: str) -> str:
    """Of the hot columns: one row per execution on SQLite, an array for each column on PostgreSQL."""
    table, hot = TABLES[row], HOT[row]
    keys = table.primary_key.columns.keys()
    if dialect == "sqlite":
        new, same = (" = ?, ".join(hot), " = ? AND ".join(keys))
        return f"UPDATE {table.name} SET {new} = ? WHERE {same} = ?"  # noqa: S608
    arrays = ", ".join(f"%s::{TYPES[str(table.columns[name].type)]}[]" for name in (*hot, *keys))
    new = ", ".join(f"{name} = new.{name}" for name in hot)
    same = " AND ".join(f"{table.name}.{name} = new.{name}" for name in keys)
    given = f"unnest({arrays}) AS new ({', '.join((*hot, *keys))})"
    return f"UPDATE {table.name} SET {new} FROM {given} WHERE {same}"  # noqa: S608


def _marks(table: Table) -> str:
    return ", ".join("?" for _ in table.columns)


DIALECTS = ("sqlite", "postgresql")
SELECTS = {(table.name, dialect): _select(table, dialect) for table in TABLES.values() for dialect in DIALECTS}
_START = "SELECT s.host_id, s.start, s.admission, s.online, s.at_ms FROM host_start s"
STARTS = {dialect: f"{_START} WHERE s.host_id {_among(dialect)} AND s.start {_among(dialect)}" for dialect in DIALECTS}
NEWEST = {  # a state may be older than its host
    dialect: f"{_START} LEFT JOIN host h ON h.host_id = s.host_id"
    f" WHERE s.host_id {_among(dialect)} AND (s.start = h.start OR s.start {_among(dialect)})"
    for dialect in DIALECTS
}
UPSERTS = {
    (table.name, dialect): _upsert(table, dialect)
    for table in (*TABLES.values(), models.reported, models.result)
    for dialect in DIALECTS
}

UPDATES = {(row, dialect): _update(row, dialect) for row in HOT for dialect in DIALECTS}
HOT_OF = {row: attrgetter(*HOT[row], *TABLES[row].primary_key.columns.keys()) for row in HOT}


def load(conn: Connection, row: type[R], hosts: Sequence[str]) -> list[R]:
    """The rows of these hosts, by primary key."""
    (found,) = read_all(conn, [(SELECTS[TABLES[row].name, conn.dialect.name], _lists(conn, hosts))])
    return [row(*values) for values in found]


class Told(NamedTuple):
    """What is known of the hosts that a batch is about."""

    hosts: list[HostRow]
    starts: list[StartRow]
    streams: list[Stream]
    collectors: list[CollectorRow]


def load_told(conn: Connection, hosts: Sequence[str], starts: Sequence[str]) -> Told:
    """These hosts, which nobody else changes until the transaction ends, and what hangs on them.

    Of starts only each host's newest and these: a host has many over the years, and a batch is about few.
    """
    dialect, given = conn.dialect.name, _lists(conn, hosts)
    host, stream, collector = (SELECTS[TABLES[row].name, dialect] for row in (HostRow, Stream, CollectorRow))
    locked = f"{host} FOR UPDATE" if _is_postgres(conn) else host
    about = (NEWEST[dialect], _lists(conn, hosts, starts))
    found = read_all(conn, [(locked, given), about, (stream, given), (collector, given)])
    return Told(
        [HostRow(*values) for values in found[0]],
        [StartRow(*values) for values in found[1]],
        [Stream(*values) for values in found[2]],
        [CollectorRow(*values) for values in found[3]],
    )


def load_starts(conn: Connection, hosts: Sequence[str], starts: Sequence[str]) -> list[StartRow]:
    """These starts of these hosts."""
    (found,) = read_all(conn, [(STARTS[conn.dialect.name], _lists(conn, hosts, starts))])
    return [StartRow(*values) for values in found]


def _lists(conn: Connection, *lists: Sequence[str]) -> tuple[Any, ...]:
    """Lists as parameters: see `_among`."""
    if _is_postgres(conn):
        return tuple(map(_array, lists))
    return tuple(msgspec.json.encode(one).decode() for one in lists)


def saving(conn: Connection, row: type[Row], whole: Sequence[Row], warm: Sequence[Row] = ()) -> list[Statement]:
    """What inserts or overwrites rows, and hot columns of others; no two of one key, in the order given."""
    statements: list[Statement] = []
    if whole:
        rows = whole if _is_postgres(conn) else [structs.astuple(one) for one in whole]
        statements.append(_upserting(conn, TABLES[row], rows))
    if warm and row in HOT:
        values: list[tuple[Any, ...]] = [*map(HOT_OF[row], warm)]
        columns = tuple(map(_array, zip(*values, strict=True))) if _is_postgres(conn) else values
        statements.append((UPDATES[row, conn.dialect.name], columns))
    return statements


def _array(column: Sequence[Any]) -> str:
    """PostgreSQL's text form of an array of numbers or of texts, without NULLs."""
    if column and isinstance(column[0], str):
        return '{"' + '","'.join(one.replace("\\", "\\\\").replace('"', '\\"') for one in column) + '"}'
    return "{" + ",".join(map(repr, column)) + "}"


def overwrite(conn: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert or overwrite rows given as all columns, no two of one key."""
    names = [column.name for column in table.columns]
    if rows:
        objects = [dict(zip(names, row, strict=True)) for row in rows]
        conn.exec_driver_sql(*_upserting(conn, table, objects if _is_postgres(conn) else rows))


def _is_postgres(conn: Connection) -> bool:
    return conn.dialect.name == "postgresql"


def _upserting(conn: Connection, table: Table, rows: Sequence[Any]) -> Statement:
    """Objects as one JSON text on PostgreSQL (psycopg dumps arrays item by item in Python), tuples on SQLite."""
    sql = UPSERTS[table.name, conn.dialect.name]
    return sql, (msgspec.json.encode(rows).decode(),) if _is_postgres(conn) else list(rows)


def _count_up(dialect: str) -> Insert:
    table = models.unknown_item
    statement = postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["host_id", "collector", "kind"],
        set_={"raw": new.raw, "reason": new.reason, "at_ms": new.at_ms, "seen": table.c.seen + new.seen},
    )


COUNTS = {dialect: _count_up(dialect) for dialect in DIALECTS}


def save_unknown(conn: Connection, parameters: list[dict[str, Any]]) -> None:
    """Insert, or add to the count of, items put aside (all columns of `models.unknown_item`)."""
    if parameters:
        conn.execute(COUNTS[conn.dialect.name], parameters)
