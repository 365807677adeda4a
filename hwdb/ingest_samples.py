"""Samples into the append-only table: series ids from a cache, rows by executemany (SQLite) or COPY (PostgreSQL)."""

from collections.abc import Iterable, Sequence
from itertools import repeat
from struct import Struct
from typing import Any

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError

from hwdb import models
from hwdb.ingest_messages import Numbers

Name = tuple[str, str]  # (metric, key)
Ids = dict[Name, int]
Columns = tuple[list[int], list[int], list[float]]  # series_id, at_ms, value
Told = tuple[str, int, Numbers, str]  # (host_id, at_ms, numbers, collector)
Names = tuple[str, ...]
Shape = tuple[Names, Names, list[int]]  # metrics, keys, ids

COPY = "COPY sample (series_id, at_ms, value) FROM STDIN (FORMAT BINARY)"
COPY_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TAIL = b"\xff\xff"
COPY_ROW = Struct(">hiqiqid")  # 3 fields, each with its length before it
INSERT = "INSERT INTO sample (series_id, at_ms, value) VALUES (?, ?, ?)"
KNOWN = select(models.series.c.host_id, models.series.c.metric, models.series.c.key, models.series.c.id).where(
    models.series.c.host_id.in_(bindparam("hosts", expanding=True))
)
NEW = {
    "sqlite": sqlite.insert(models.series).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(models.series).on_conflict_do_nothing(),
}


class Series:
    """Ids of series, by host. What a transaction adds is kept only when `keep` says that it was committed."""

    def __init__(self, limit: int = 1_000_000) -> None:
        self._limit = limit  # series, about 400 bytes each
        self._hosts: dict[str, Ids] = {}
        self._shapes: dict[Name, Shape] = {}  # by (host_id, collector)
        self._count = 0
        self._fresh: dict[str, Ids] = {}

    def of(self, host_id: str) -> Ids:
        """The ids of this host that are known."""
        return self._fresh.get(host_id) or self._hosts.get(host_id) or {}

    def run_ids(self, run: Name, metrics: Names, keys: Names) -> Sequence[int]:
        """The ids of one run of (host_id, collector); raises KeyError when one is not known.

        Runs of a collector have the same series in the same order, so that comparing is enough: looking them up one by
        one took six times as long.
        """
        shape = self._shapes.get(run)
        if shape and shape[0] == metrics and shape[1] == keys:
            return shape[2]
        host_id = run[0]
        names = list(zip(metrics, keys, strict=True))
        ids = [*map(self.of(host_id).__getitem__, names)]
        if host_id in self._hosts and host_id not in self._fresh:
            self._shapes[run] = (metrics, keys, ids)
        return ids

    def learn(self, conn: Connection, told: Iterable[Told]) -> None:
        """Read, or make, the ids that are missing for these samples."""
        missing: dict[str, set[Name]] = {}
        for host_id, _, numbers, _ in told:
            known = self.of(host_id)
            lacking = {(metric, key) for metric, key, _ in numbers if (metric, key) not in known}
            if lacking:
                missing.setdefault(host_id, set()).update(lacking)
        self._fresh |= self._read(conn, missing)
        new = {host: names - self._fresh[host].keys() for host, names in missing.items()}
        if any(new.values()):
            conn.execute(NEW[conn.dialect.name], _new_rows(new))
            self._fresh |= self._read(conn, new)

    def _read(self, conn: Connection, hosts: Iterable[str]) -> dict[str, Ids]:
        found: dict[str, Ids] = {host: {} for host in sorted(hosts)}
        if found:
            for host_id, metric, key, number in conn.execute(KNOWN, {"hosts": list(found)}):
                found[host_id][metric, key] = number
        return found

    def forget(self) -> None:
        """A transaction begins: what the one before it added and nobody kept was rolled back."""
        self._fresh = {}

    def keep(self) -> None:
        """The transaction is committed: remember what it added, forget the oldest hosts above the limit."""
        for host_id, ids in self._fresh.items():
            self._count += len(ids) - len(self._hosts.pop(host_id, {}))
            self._hosts[host_id] = ids
        self._fresh = {}
        while self._count > self._limit and len(self._hosts) > 1:
            self._count -= len(self._hosts.pop(next(iter(self._hosts))))
            self._shapes.clear()


def _new_rows(new: dict[str, set[Name]]) -> list[dict[str, str]]:
    return [
        {"host_id": host_id, "metric": metric, "key": key}
        for host_id, names in sorted(new.items())
        for metric, key in sorted(names)
    ]


def write(conn: Connection, series: Series, told: list[Told]) -> int:
    """Append these samples; returns how many."""
    if not told:
        return 0
    append = _copy if conn.dialect.name == "postgresql" else _insert
    try:
        columns = _columns(series, told)
    except KeyError:
        series.learn(conn, told)
        columns = _columns(series, told)
    append(conn, columns)
    return len(columns[0])


def _columns(series: Series, told: list[Told]) -> Columns:
    """Raises KeyError when an id is not known."""
    ids: list[int] = []
    times: list[int] = []
    values: list[float] = []
    for host_id, at_ms, numbers, collector in told:
        metrics, keys, measured = zip(*numbers, strict=True)
        ids.extend(series.run_ids((host_id, collector), metrics, keys))
        times.extend(repeat(at_ms, len(measured)))
        values.extend(measured)
    return ids, times, values


def _insert(conn: Connection, columns: Columns) -> None:
    conn.exec_driver_sql(INSERT, list(zip(*columns, strict=True)))


def _copy(conn: Connection, columns: Columns) -> None:
    ids, times, values = columns
    eight = repeat(8)
    packed = map(COPY_ROW.pack, repeat(3), eight, ids, eight, times, eight, values)
    driver: Any = conn.connection.driver_connection
    dbapi: Any = conn.dialect.dbapi
    try:
        with driver.cursor() as cursor, cursor.copy(COPY) as copy:
            copy.write(b"".join((COPY_HEAD, *packed, COPY_TAIL)))
    except dbapi.Error as error:
        raise OperationalError(COPY, None, error) from error
