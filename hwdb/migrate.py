"""The schema's revisions: bring a database to the newest, and say how it differs from the models."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Index, Table

from hwdb.db import open_engine
from hwdb.models import metadata

LOCK = 7_202_611_21  # pg_advisory_lock key: one migration at a time


def _folder() -> Path:
    """The revisions: inside the package when installed from a wheel, beside it in a checkout."""
    inside = Path(__file__).with_name("migrations")
    return inside if inside.is_dir() else Path(__file__).parents[1] / "migrations"


def config(connection: Connection | None = None) -> Config:
    """Alembic's configuration, running on `connection` where given."""
    cfg = Config()
    cfg.set_main_option("script_location", str(_folder()).replace("%", "%%"))
    cfg.attributes["connection"] = connection
    return cfg


@contextmanager
def _connect(url: str) -> Generator[Connection]:
    """A connection with nothing begun; on SQLite without foreign keys, as a table's rebuild would fire them."""
    path = url.removeprefix("sqlite:///")
    if path != url and path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = open_engine(url)
    try:
        with engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("COMMIT")
                connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
                connection.rollback()
            yield connection
    finally:
        engine.dispose()


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database (made if need be) to `revision`."""
    with _connect(url) as connection:
        command.upgrade(config(connection), revision)


def downgrade(url: str, revision: str) -> None:
    """Take the database back to `revision` ("base" is empty, "-1" one step)."""
    with _connect(url) as connection:
        command.downgrade(config(connection), revision)


def check(url: str) -> list[str]:
    """What is wrong with the schema, one line each; empty when it is at head and the same as the models."""
    with _connect(url) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        head = ScriptDirectory.from_config(config()).get_current_head()
        current = context.get_current_revision()
        problems = [] if current == head else [f"database is at revision {current}, not at {head}"]
        return problems + [f"differs from the models: {change!r}"[:500] for change in _drift(context)]


def _drift(context: MigrationContext) -> list[object]:
    ours = set(metadata.tables) | {"alembic_version"}
    return [change for change in compare_metadata(context, metadata) if not _foreign(change, ours)]


def _foreign(change: object, ours: set[str]) -> bool:
    """A table of somebody else in the same database is none of our business."""
    match change:
        case ("remove_table", Table(name=name)):
            return name not in ours
        case ("remove_index", Index(table=Table(name=name))):
            return name not in ours
        case _:
            return False
