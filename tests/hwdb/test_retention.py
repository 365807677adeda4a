"""Old samples, events and dead letters go; all else stays."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, text

from hwdb import retention
from hwdb.db import writing
from hwdb.retention import DAY_MS, Days
from tests.agent.brokers import wait_for

Query = Callable[..., list[tuple[Any, ...]]]
NOW_MS = 1_800_000_000_000


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """A host with a sample, an event and a dead letter of every day of the last 40."""
    with writing(engine) as conn:
        conn.execute(text("INSERT INTO host (host_id, hostname) VALUES ('h', 'h')"))
        for day in range(40, 0, -1):
            at = {"at_ms": NOW_MS - day * DAY_MS}
            conn.execute(text("INSERT INTO sample (series_id, at_ms, value) VALUES (1, :at_ms, 0.5)"), at)
            conn.execute(text("INSERT INTO event (host_id, at_ms, kind) VALUES ('h', :at_ms, 'x.y')"), at)
            conn.execute(text("INSERT INTO dead_letter (payload, at_ms) VALUES ('x', :at_ms)"), at)
    return engine


def test_what_is_older_goes_and_the_rest_stays(filled: Engine, query: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "ROWS", 3)
    deleted = retention.prune(filled, Days(samples=14, events=30), NOW_MS)
    assert deleted == {"sample": 26, "event": 10, "dead_letter": 10}
    for table, days in (("sample", 14), ("event", 30), ("dead_letter", 30)):
        assert query(f"SELECT count(*), min(at_ms) FROM {table}") == [(days, NOW_MS - days * DAY_MS)]  # noqa: S608
    assert query("SELECT hostname FROM host") == [("h",)]
    assert retention.prune(filled, Days(samples=14, events=30), NOW_MS) == dict.fromkeys(deleted, 0)


def test_zero_days_keep_for_ever(filled: Engine, query: Query) -> None:
    assert retention.prune(filled, Days(samples=0, events=0), NOW_MS) == {}
    assert query("SELECT count(*) FROM sample") == [(40,)]


def test_it_stops_when_told(filled: Engine, query: Query) -> None:
    stop = threading.Event()
    stop.set()
    assert retention.prune(filled, Days(), NOW_MS, stop) == {"sample": 0, "event": 0, "dead_letter": 0}
    assert query("SELECT count(*) FROM sample") == [(40,)]


def test_the_thread_prunes_until_it_is_stopped_and_outlives_the_database(
    filled: Engine, query: Query, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retention, "EVERY_S", 0.01)
    with writing(filled) as conn:
        conn.execute(text("INSERT INTO sample (series_id, at_ms, value) VALUES (2, 1, 0.5)"))
        conn.execute(text("ALTER TABLE sample RENAME TO away"))
    stop = threading.Event()
    thread = threading.Thread(target=retention.run, args=(filled, Days(), stop))
    thread.start()
    wait_for(lambda: caplog.records)
    with writing(filled) as conn:
        conn.execute(text("ALTER TABLE away RENAME TO sample"))
    wait_for(lambda: not query("SELECT at_ms FROM sample WHERE series_id = 2"))
    stop.set()
    thread.join()
    assert "old rows are not deleted" in caplog.text
