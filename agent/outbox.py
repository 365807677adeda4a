"""Rows in memory that wait for their ack: what a poller keeps of a device it can ask again at any time.

As the spool, and lighter: nothing outlives the process, so every start has an epoch of its own. When it is full the
least important and oldest rows go; they are counted, and an event `spool.gap` tells of them.
"""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from agent.spool import Pending, Row, event_row
from wire.report import Event, Priority, Severity

KIB = 1024
MAX_BYTES = 1024 * KIB
GAP_EVERY_S = 600.0


class _Kept(msgspec.Struct):
    priority: Priority
    body: bytes


class Outbox:
    """One device's rows; `dropped` counts those lost since the start, by priority."""

    def __init__(self, max_bytes: int = MAX_BYTES, now: Callable[[], float] = time.time) -> None:
        self.max_bytes = max_bytes
        self.epoch = str(uuid.uuid4())
        self.bytes = 0
        self.dropped: Counter[Priority] = Counter()
        self._untold: Counter[Priority] = Counter()
        self._told_s = float("-inf")
        self._now = now
        self._next = 1
        self._rows: dict[int, _Kept] = {}  # in the order of their numbers

    def append(self, rows: Sequence[Row]) -> None:
        """Keep these rows, and make room for them."""
        for row in rows:
            self._add(row)
        while self.bytes > self.max_bytes and len(self._rows) > 1:
            self._drop(max(self._rows, key=lambda seq: (self._rows[seq].priority, -seq)))
        self._tell()

    def floor(self) -> int:
        """The lowest number held; the next number when nothing is."""
        return next(iter(self._rows), self._next)

    def count(self) -> int:
        """How many rows wait."""
        return len(self._rows)

    def pending(self, limit: int, *, oldest: bool = False) -> list[Pending]:
        """The first rows by priority and number, or by number alone."""
        rows = [Pending(seq, kept.priority) for seq, kept in self._rows.items()]
        return (rows if oldest else sorted(rows, key=lambda row: (row.priority, row.seq)))[:limit]

    def body(self, seq: int) -> bytes | None:
        """The JSON of a row's body; None when it has left."""
        kept = self._rows.get(seq)
        return kept.body if kept else None

    def ack(self, epoch: str, seq: int) -> int:
        """Remove every row up to `seq` and return how many left; another epoch is ignored."""
        gone = [number for number in self._rows if number <= seq] if epoch == self.epoch else []
        for number in gone:
            self.bytes -= len(self._rows.pop(number).body)
        return len(gone)

    def _add(self, row: Row) -> None:
        body = msgspec.json.encode(row.body)
        if len(body) > self.max_bytes:
            self._count(row.priority)
            return
        self._rows[self._next] = _Kept(row.priority, body)
        self._next += 1
        self.bytes += len(body)

    def _drop(self, seq: int) -> None:
        kept = self._rows.pop(seq)
        self.bytes -= len(kept.body)
        self._count(kept.priority)

    def _count(self, priority: Priority) -> None:
        self.dropped[priority] += 1
        self._untold[priority] += 1

    def _tell(self) -> None:
        if not self._untold or self._now() - self._told_s < GAP_EVERY_S:
            return
        self._told_s = self._now()
        for priority, count in sorted(self._untold.items()):
            name = priority.name.lower()
            text = f"{count} {name} rows were lost: the outbox was full, or a row too large"
            at_ms = int(self._now() * 1000)
            event = Event(at_ms=at_ms, kind="spool.gap", severity=Severity.WARNING, text=text, data={"count": count})
            self._add(event_row(event))
        self._untold.clear()
