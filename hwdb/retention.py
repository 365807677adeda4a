"""What is kept for how long: old samples, events and dead letters are deleted, a bounded number in a transaction.

History, hosts, components, policies and findings are kept for ever: they are few.
"""

import logging
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from hwdb.db import writing

if TYPE_CHECKING:
    from sqlalchemy import Engine

EVERY_S = 600.0
ROWS = 20_000  # in a transaction: ingest waits for no more
PAUSE_S = 0.05  # between two transactions, for those who wait
DAY_MS = 86_400_000

log = logging.getLogger("rackhand.retention")


class Days(NamedTuple):
    """How long things are kept; 0 is for ever."""

    samples: int = 14
    events: int = 365  # and dead letters


# Samples have no key and an index of their times; the others are looked at from their oldest row on, by their key.
_DELETE = {
    ("sample", "sqlite"): "DELETE FROM sample WHERE rowid IN"
    " (SELECT rowid FROM sample WHERE at_ms < :before LIMIT :rows)",
    ("sample", "postgresql"): "DELETE FROM sample WHERE ctid = ANY(ARRAY"
    "(SELECT ctid FROM sample WHERE at_ms < :before LIMIT :rows))",
}
_OLDEST = (
    "DELETE FROM {table} WHERE id IN"
    " (SELECT id FROM (SELECT id, at_ms FROM {table} ORDER BY id LIMIT :rows) AS oldest WHERE at_ms < :before)"
)


def prune(engine: "Engine", days: Days, now_ms: int, stop: threading.Event | None = None) -> dict[str, int]:
    """Delete what is too old, until nothing is or `stop` is set; how many rows of each table."""
    ages = {"sample": days.samples, "event": days.events, "dead_letter": days.events}
    return {table: _table(engine, table, now_ms - age * DAY_MS, stop) for table, age in ages.items() if age}


def _table(engine: "Engine", table: str, before_ms: int, stop: threading.Event | None) -> int:
    from sqlalchemy import text  # noqa: PLC0415 - the command line imports this module for its defaults

    statement = text(_DELETE.get((table, engine.dialect.name)) or _OLDEST.format(table=table))
    total = 0
    while stop is None or not stop.is_set():
        with writing(engine) as conn:
            deleted = conn.execute(statement, {"before": before_ms, "rows": ROWS}).rowcount
        total += deleted
        if not deleted:
            break
        time.sleep(PAUSE_S)
    return total


def run(engine: "Engine", days: Days, stop: threading.Event) -> None:
    """Prune now and then until `stop` is set; a database that is away is tried again the next time."""
    while not stop.wait(EVERY_S):
        try:
            deleted = prune(engine, days, time.time_ns() // 1_000_000, stop)
        except Exception as error:  # noqa: BLE001 - as in the ingest loop: it outlives whatever the database does
            log.warning("old rows are not deleted: %s", str(error).splitlines()[0])
        else:
            if any(deleted.values()):
                log.info("deleted %s", ", ".join(f"{count} of {table}" for table, count in deleted.items()))
