from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from msgspec import structs
from sqlalchemy import Engine

from hwdb import migrate, models
from hwdb.db import DatabaseError, open_engine, reading, rows, writing
from hwdb.ingest_rows import TABLES


def test_up_and_down_and_up_again(empty_url: str) -> None:
    assert migrate.check(empty_url)
    migrate.upgrade(empty_url)
    assert migrate.check(empty_url) == []
    migrate.downgrade(empty_url, "base")
    assert "database is at revision None" in migrate.check(empty_url)[0]
    migrate.upgrade(empty_url)
    assert migrate.check(empty_url) == []


def test_check_names_drift(url: str, query: Callable[..., list[tuple[Any, ...]]]) -> None:
    query("ALTER TABLE host ADD COLUMN colour TEXT")
    query("DROP INDEX ix_host_hostname")
    found = "\n".join(migrate.check(url))
    assert "colour" in found
    assert "ix_host_hostname" in found


def test_a_table_of_somebody_else_is_no_drift(url: str, query: Callable[..., list[tuple[Any, ...]]]) -> None:
    query("CREATE TABLE grafana (id INTEGER)")
    query("CREATE INDEX grafana_id ON grafana (id)")
    assert migrate.check(url) == []


def test_data_survives_an_upgrade_that_finds_nothing_to_do(url: str, engine: Engine) -> None:
    _fill(engine)
    migrate.upgrade(url)
    assert _count(engine) == (1, 1)


def test_rebuilding_a_table_keeps_what_points_at_it(url: str, engine: Engine) -> None:
    """SQLite alters by drop and rename; with foreign keys on, the drop would empty or refuse."""
    _fill(engine)
    with migrate._connect(url) as connection:
        context = MigrationContext.configure(connection)
        with context.begin_transaction(), Operations(context).batch_alter_table("host", recreate="auto") as batch:
            batch.alter_column("hostname", new_column_name="name", existing_type=sa.Text())
        connection.commit()
    assert _count(engine) == (1, 1)
    with engine.connect() as conn:
        assert rows(conn, "SELECT name FROM host") == [("x.example",)]


def _fill(engine: Engine) -> None:
    with writing(engine) as conn:
        rows(conn, "INSERT INTO host (host_id, hostname) VALUES ('h', 'x.example')")
        rows(conn, "INSERT INTO component (host_id, kind, key, data) VALUES ('h', 'nic', 'k', '{}')")


def _count(engine: Engine) -> tuple[int, int]:
    with engine.connect() as conn:
        return rows(conn, "SELECT (SELECT count(*) FROM host), (SELECT count(*) FROM component)")[0]


def test_every_name_follows_the_convention() -> None:
    for table in models.metadata.tables.values():
        for constraint in table.constraints:
            if constraint.name:
                assert str(constraint.name)[:3] in {"pk_", "fk_", "uq_", "ck_"}
        for index in table.indexes:
            assert str(index.name)[:3] in {"ix_", "uq_"}


@pytest.mark.parametrize(("row", "table"), TABLES.items(), ids=lambda one: getattr(one, "name", None))
def test_row_structs_are_the_tables(row: Any, table: Any) -> None:
    assert [field.name for field in structs.fields(row)] == [column.name for column in table.columns]


def test_reading_is_read_only(url: str) -> None:
    with reading(url) as conn, pytest.raises(Exception, match=r"readonly|read-only|read only"):
        rows(conn, "INSERT INTO host (host_id) VALUES ('h')")


def test_reading_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="no inventory at"), reading(f"sqlite:///{tmp_path}/none.db"):
        pass
    with pytest.raises(DatabaseError, match="cannot reach"), reading(f"postgresql://x@/x?host={tmp_path}"):
        pass


def test_commits_are_durable(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/x.db")
    with engine.connect() as conn:
        assert rows(conn, "PRAGMA synchronous") == [(2,)]
        assert rows(conn, "PRAGMA journal_mode") == [("wal",)]
    engine.dispose()
