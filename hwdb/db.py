"""Doors to the database: an SQLAlchemy engine for what writes, a bare driver connection for short reads.

SQLAlchemy takes 160 ms to import, which is most of what a whole CLI process may take; so the engine's imports are
lazy and `reading` goes to the driver. `rows` runs the same SQL text, with `:name` parameters, on either.
"""

import re
import sqlite3
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection, Engine

    Conn = Connection | sqlite3.Connection | psycopg.Connection[Any]

BUSY_S = 30.0
_PARAMETER = re.compile(r"(?<![:\w]):(\w+)")
_IMMEDIATE = "sqlite_immediate"


class DatabaseError(Exception):
    """The database is not there or not of this schema; the message is one line."""


def check_url(url: str) -> None:
    """Raise DatabaseError unless it is the URL of a database that this can use; a password in it is not repeated."""
    if not re.match(r"sqlite:///.|postgresql(\+psycopg)?://", url):
        kind = url.partition("://")[0] if "://" in url else "that"
        raise DatabaseError(f"{kind[:40]!r} is no database here: sqlite:///PATH or postgresql://USER@HOST/NAME")


def open_engine(url: str) -> "Engine":
    """An engine for `sqlite:///PATH` or `postgresql://...` (psycopg 3); raises DatabaseError for another URL."""
    from sqlalchemy import create_engine, make_url  # noqa: PLC0415 - see the module's docstring

    check_url(url)
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        return create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
    engine = create_engine(parsed, connect_args={"timeout": BUSY_S})
    _prepare_sqlite(engine)
    return engine


def _prepare_sqlite(engine: "Engine") -> None:
    """Every transaction is begun by us; one that writes takes the write lock first, so that it never has to upgrade."""
    from sqlalchemy import event  # noqa: PLC0415 - see the module's docstring

    def connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-65536"):
            connection.execute(f"PRAGMA {pragma}").close()

    def begun(connection: "Connection") -> None:
        immediate = connection.get_execution_options().get(_IMMEDIATE)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)


@contextmanager
def writing(engine: "Engine") -> "Generator[Connection]":
    """One transaction that writes: committed (and on disk) at the end, rolled back on an exception."""
    with engine.execution_options(**{_IMMEDIATE: True}).begin() as conn:
        yield conn


@contextmanager
def reading(url: str) -> "Generator[sqlite3.Connection | psycopg.Connection[Any]]":
    """A read-only connection of the bare driver, one snapshot; raises DatabaseError when there is no database."""
    check_url(url)
    conn = _open_sqlite(url) if url.startswith("sqlite") else _open_postgres(url)
    try:
        conn.execute("BEGIN")
        yield conn
    finally:
        conn.close()


def _open_sqlite(url: str) -> sqlite3.Connection:
    path = Path(url.partition("///")[2])
    if not path.is_file():
        raise DatabaseError(f"no inventory at {path}: `rackhand db upgrade` makes one")
    conn = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    conn.execute("PRAGMA query_only=ON")
    return conn


def _open_postgres(url: str) -> "psycopg.Connection[Any]":
    import psycopg  # noqa: PLC0415 - not needed on SQLite

    try:
        conn = psycopg.connect(re.sub(r"^postgresql\+\w+:", "postgresql:", url), autocommit=True)
    except psycopg.OperationalError as error:
        raise DatabaseError(f"cannot reach the inventory: {str(error).splitlines()[0]}") from None
    conn.execute("SET default_transaction_read_only = on")
    return conn


def rows(conn: "Conn", sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
    """Run portable SQL with `:name` parameters on any of the connections; its rows, [] for a statement without."""
    door: Any = conn
    driver = type(conn).__module__.partition(".")[0]
    if driver == "sqlalchemy":
        from sqlalchemy import text  # noqa: PLC0415 - see the module's docstring

        answer = door.execute(text(sql), parameters or {})
        return [tuple(row) for row in answer] if answer.returns_rows else []
    if driver == "psycopg":
        sql = _PARAMETER.sub(r"%(\1)s", sql.replace("%", "%%"))
    cursor = door.execute(sql, parameters or {})
    return cursor.fetchall() if cursor.description else []
