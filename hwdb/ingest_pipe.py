"""Several statements at once: on PostgreSQL sent in a pipeline, in one round trip."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

Statement = tuple[str, Any]  # SQL as the driver takes it, and its parameters; a list of tuples runs it for each


def read_all(conn: Connection, statements: Sequence[Statement]) -> list[list[tuple[Any, ...]]]:
    """The rows of each statement, run in this order."""
    if conn.dialect.name != "postgresql":
        return [[tuple(row) for row in conn.exec_driver_sql(*one)] for one in statements]
    with _as_sqlalchemy(conn) as driver, driver.pipeline():
        cursors = [driver.execute(*one) for one in statements]
        return [cursor.fetchall() for cursor in cursors]


def write_all(conn: Connection, statements: Sequence[Statement]) -> None:
    """Run these in this order."""
    if conn.dialect.name != "postgresql":
        for one in statements:
            conn.exec_driver_sql(*one)
    elif statements:
        with _as_sqlalchemy(conn) as driver, driver.pipeline():
            for one in statements:
                driver.execute(*one)


@contextmanager
def _as_sqlalchemy(conn: Connection) -> Generator[Any]:
    """The driver's connection, its errors raised as SQLAlchemy raises them."""
    dbapi: Any = conn.dialect.loaded_dbapi
    try:
        yield conn.connection.driver_connection
    except dbapi.Error as error:
        raise DBAPIError.instance(None, None, error, dbapi.Error, dialect=conn.dialect) from error
