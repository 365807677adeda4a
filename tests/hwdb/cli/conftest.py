"""A filled inventory for the command line, on SQLite and the same on PostgreSQL."""

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.hwdb.cli.inventory import POLICY, fill, filled


@pytest.fixture
def url(tmp_path: Path) -> str:
    return filled(tmp_path / "inventory.db")


@pytest.fixture
def other_url(postgres: str) -> Iterator[str]:
    """The same inventory on PostgreSQL."""
    name = f"cli{os.urandom(6).hex()}"
    with psycopg.connect(postgres.format(name="postgres"), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name} TEMPLATE migrated".encode())
        fill(postgres.format(name=name))
        yield postgres.format(name=name)
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def edge(tmp_path: Path) -> str:
    file = tmp_path / "edge.yaml"
    file.write_text(POLICY)
    return str(file)
