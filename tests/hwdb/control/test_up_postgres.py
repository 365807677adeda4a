"""`rackhand up` on PostgreSQL by URL: the same screen, the same answers afterwards."""

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.hwdb.cli.inventory import fine, parsed
from tests.hwdb.control.test_up import once


@pytest.fixture
def fresh_url(postgres: str) -> Iterator[str]:
    """An empty database."""
    name = f"up{os.urandom(6).hex()}"
    with psycopg.connect(postgres.format(name="postgres"), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name}".encode())
        yield postgres.format(name=name)
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.mark.broker
@pytest.mark.postgres
def test_the_whole_loop_fills_an_empty_postgresql(fresh_url: str, tmp_path: Path) -> None:
    done = once(tmp_path / "state", "--db", fresh_url)
    assert done.returncode == 0, done.stderr
    assert "postgresql://" in done.stdout
    assert not (tmp_path / "state" / "rackhand.db").exists()
    assert len(parsed("json", fine(fresh_url, "hosts", "-o", "json"))) == 1
    assert fine(fresh_url, "db", "check")
    policy = tmp_path / "policy.yaml"
    policy.write_text("name: here\nmode: warn\npreset: balanced\n")
    fine(fresh_url, "policy", "apply", str(policy))
    assert "here" in fine(fresh_url, "policy", "show")
    fine(fresh_url, "policy", "rm", "here", "--yes")
