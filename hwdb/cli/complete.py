"""Words for the shell's completion, from SQL; a database that is not there completes nothing and says nothing."""

import typer

from hwdb.place import default_url

HOSTS = "SELECT hostname FROM host WHERE hostname LIKE :start ORDER BY hostname LIMIT 200"
POLICIES = "SELECT name FROM policy WHERE removed_ms IS NULL AND name LIKE :start ORDER BY name"


def host_names(context: typer.Context, incomplete: str) -> list[str]:
    """Host names that begin with what was typed."""
    return _words(context, HOSTS, incomplete)


def policy_names(context: typer.Context, incomplete: str) -> list[str]:
    """Policy names that begin with what was typed."""
    return _words(context, POLICIES, incomplete)


def _words(context: typer.Context, sql: str, incomplete: str) -> list[str]:
    import os  # noqa: PLC0415
    import sqlite3  # noqa: PLC0415

    from hwdb.db import DatabaseError, reading, rows  # noqa: PLC0415

    url = context.params.get("db") or os.environ.get("RACKHAND_DB") or default_url()
    try:
        with reading(url) as conn:
            return [text for (text,) in rows(conn, sql, {"start": f"{incomplete}%"})]
    except (DatabaseError, sqlite3.Error):
        return []
