"""Samples into the append-only table: series ids from a cache, rows by the hundred (SQLite) or COPY (PostgreSQL)."""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from itertools import repeat
from struct import Struct, pack
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
Send = Callable[[Told], bool]
Names = tuple[str, ...]
Shape = tuple[Names, Names, list[int]]  # metrics, keys, ids
Copy = Any  # psycopg's, which is imported only where it is used

COPY = "COPY sample (series_id, at_ms, value) FROM STDIN (FORMAT BINARY)"
COPY_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TAIL = b"\xff\xff"
COPY_ROW = Struct(">hiqiqid")  # 3 fields, each with its length before it
CHUNK = 1000  # rows at least in one write to a COPY
MANY = 100  # rows in one INSERT: two and a half times as fast as one by one
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


class _Gatherer:
    """Samples in columns, with the ids of their series."""

    def __init__(self, series: Series) -> None:
        self._series = series
        self.columns: Columns = ([], [], [])

    def add(self, told: Told) -> None:
        """One run; raises KeyError when one of its series is not known."""
        host_id, at_ms, numbers, collector = told
        metrics, keys, measured = zip(*numbers, strict=True)
        ids, times, values = self.columns
        ids.extend(self._series.run_ids((host_id, collector), metrics, keys))
        times.extend(repeat(at_ms, len(measured)))
        values.extend(measured)


class _Sender(_Gatherer):
    """Rows into a COPY that begins with the first of them."""

    def __init__(self, series: Series, begin: Callable[[], Copy]) -> None:
        super().__init__(series)
        self._begin = begin
        self._copy: Copy = None

    def send(self, told: Told) -> bool:
        """Take these samples; False when one of their series is not known."""
        try:
            self.add(told)
        except KeyError:
            return False
        if len(self.columns[0]) >= CHUNK:
            self._flush()
        return True

    def end(self) -> None:
        """Hand over the rest."""
        self._flush()
        if self._copy is not None:
            self._copy.write(COPY_TAIL)

    def _flush(self) -> None:
        if not self.columns[0]:
            return
        head = b""
        if self._copy is None:
            self._copy, head = self._begin(), COPY_HEAD
        self._copy.write(head + packed(self.columns))
        self.columns = ([], [], [])


@contextmanager
def sending(conn: Connection, series: Series) -> Generator[Send]:
    """A way for samples while messages are read: PostgreSQL stores them meanwhile, and does nothing else until the end.

    Those of unknown series are refused, on SQLite all: `write` takes them.
    """
    if conn.dialect.name != "postgresql":
        yield hold
        return
    with _copying(conn) as begin:
        sender = _Sender(series, begin)
        yield sender.send
        sender.end()


def hold(_told: Told) -> bool:
    """Refuse to send these samples."""
    return False


def write(conn: Connection, series: Series, told: list[Told]) -> None:
    """Append these samples; series that are not known are made."""
    if not told:
        return
    try:
        columns = _columns(series, told)
    except KeyError:
        series.learn(conn, told)
        columns = _columns(series, told)
    if conn.dialect.name != "postgresql":
        _insert(conn, columns)
        return
    with _copying(conn) as begin:
        begin().write(b"".join((COPY_HEAD, packed(columns), COPY_TAIL)))


def _columns(series: Series, told: list[Told]) -> Columns:
    """Raises KeyError when an id is not known."""
    gatherer = _Gatherer(series)
    for one in told:
        gatherer.add(one)
    return gatherer.columns


def _insert(conn: Connection, columns: Columns) -> None:
    """Hundreds by one statement, the rest by another."""
    flat: list[float] = [0] * (3 * len(columns[0]))
    flat[0::3], flat[1::3], flat[2::3] = columns
    parts = [tuple(flat[start : start + 3 * MANY]) for start in range(0, len(flat), 3 * MANY)]
    rest = parts.pop()
    if parts:
        conn.exec_driver_sql(insert_of(MANY), parts)
    conn.exec_driver_sql(insert_of(len(rest) // 3), rest)


def insert_of(rows: int) -> str:
    """The SQL that inserts that many samples on SQLite."""
    return f"INSERT INTO sample (series_id, at_ms, value) VALUES {', '.join(['(?, ?, ?)'] * rows)}"  # noqa: S608


@contextmanager
def _copying(conn: Connection) -> Generator[Callable[[], Copy]]:
    """How to begin a COPY, which ends with the block.

    No sample can be refused: whatever is wrong is the database's, and the batch is to be tried again.
    """
    driver: Any = conn.connection.driver_connection
    dbapi: Any = conn.dialect.loaded_dbapi
    try:
        with driver.cursor() as cursor, ExitStack() as ending:
            yield lambda: ending.enter_context(cursor.copy(COPY))
    except dbapi.Error as error:
        raise OperationalError(COPY, None, error) from error


def packed(columns: Columns) -> bytes:
    """Rows as binary COPY takes them, made column by column and byte by byte: no row passes through Python."""
    ids, times, values = columns
    rows = bytearray(COPY_ROW.pack(3, 8, 0, 8, 0, 8, 0.0) * len(ids))
    big, real = f">{len(ids)}q", f">{len(ids)}d"
    for start, plain in ((6, pack(big, *ids)), (18, pack(big, *times)), (30, pack(real, *values))):
        for byte in range(8):
            rows[start + byte :: COPY_ROW.size] = plain[byte::8]
    return bytes(rows)
