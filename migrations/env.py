"""Runs revisions on the connection that `hwdb.migrate` hands over; one transaction each, one migration at a time."""

from alembic import context
from sqlalchemy import Connection

from hwdb.migrate import LOCK
from hwdb.models import metadata


def _lock(connection: Connection) -> None:
    """Wait for another migration, but never long for a table in use."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_lock({LOCK})")
        connection.exec_driver_sql("SET lock_timeout = '4s'")
        connection.commit()


def _unlock(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.rollback()
        connection.exec_driver_sql(f"SELECT pg_advisory_unlock({LOCK})")
        connection.commit()


def run() -> None:
    """Upgrade or downgrade, as the command says."""
    connection: Connection = context.config.attributes["connection"]
    _lock(connection)
    try:
        context.configure(
            connection=connection,
            target_metadata=metadata,
            render_as_batch=connection.dialect.name == "sqlite",
            transaction_per_migration=True,
            compare_type=True,
        )
        with context.begin_transaction():
            context.run_migrations()
    finally:
        _unlock(connection)


run()
