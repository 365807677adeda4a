"""The store of reports that the inventory has not acknowledged yet.

Guarantee: a row whose `append` returned survives kill -9 of the agent at any moment, and a power loss, given a disk
that keeps what fsync confirmed (SQLite, WAL, synchronous=FULL: one fsync per `append`, whatever the number of rows).
An ack is not awaited on the disk: after a power loss its rows may be there again, and are sent again.
A row leaves only by `ack`, by age, or because the spool is full; the last two are counted and told in an event
`spool.gap`. A sequence number is never used twice within an epoch.
"""

import sqlite3
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from agent import statefile
from wire.codec import MAX_BYTES, raw
from wire.report import Event, Priority, Run, Severity

VERSION = 1
MAX_ROW = MAX_BYTES - 4096  # the rest is for the report's own fields
GAP_EVERY_S = 600.0  # drops go on for as long as the outage; one event per that time tells of them
CORRUPT_KEPT = 3
_SUFFIXES = ("", "-wal", "-shm")

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE meta (epoch TEXT NOT NULL);
CREATE TABLE rows (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, priority INTEGER NOT NULL, at_ms INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX rows_by_priority ON rows (priority, seq);
CREATE INDEX rows_by_age ON rows (at_ms);
CREATE TABLE gaps (
  priority INTEGER NOT NULL, reason TEXT NOT NULL, from_seq INTEGER NOT NULL, to_seq INTEGER NOT NULL,
  count INTEGER NOT NULL, PRIMARY KEY (priority, reason));
"""
_INSERT = "INSERT INTO rows (priority, at_ms, body) VALUES (?, ?, ?)"
_OLD = "SELECT seq, priority, length(body) FROM rows WHERE at_ms < ? LIMIT 1000"
_LEAST = "SELECT seq, priority, length(body) FROM rows ORDER BY priority DESC, seq LIMIT 1"
_ACKED = "DELETE FROM rows WHERE seq <= ? RETURNING length(body)"
_HELD = "SELECT coalesce(sum(length(body)), 0) FROM rows"
_ADD_GAP = """INSERT INTO gaps VALUES (?, ?, ?, ?, ?) ON CONFLICT (priority, reason) DO UPDATE SET
  from_seq = min(from_seq, excluded.from_seq), to_seq = max(to_seq, excluded.to_seq), count = count + excluded.count"""


class SpoolError(Exception):
    """The rows were not stored (full disk, say); they are counted, and the next append tells of the gap."""

    retry = True


class Body(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What of a `wire.report.Report` is known before it has a number."""

    runs: list[Run] = []
    events: list[msgspec.Raw] = []


class Row(NamedTuple):
    """Something to append."""

    priority: Priority
    body: Body


class Pending(NamedTuple):
    """A row that waits for its ack."""

    seq: int
    priority: Priority


class _Held(NamedTuple):
    seq: int
    priority: int
    size: int


class _UntrustedError(sqlite3.DatabaseError):
    """The file is no spool of this version, or its content is damaged."""


def event_row(*events: Event) -> Row:
    """Events as a row of the first priority."""
    return Row(Priority.EVENT, Body(events=[raw(event) for event in events]))


class Spool:
    """One spool file, used by one thread; raises SpoolError when it can be neither opened nor begun anew.

    `epoch` is its identity, `bytes` what its rows take, `dropped` counts rows lost since the start, by priority.
    """

    def __init__(self, path: Path, max_bytes: int, max_age_s: float, now: Callable[[], float] = time.time) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.max_age_s = max_age_s
        self.dropped: Counter[Priority] = Counter()
        self._now = now
        self._told_at = float("-inf")
        self._missed: Counter[Priority] = Counter()
        self._why_missed = ""
        self.epoch = ""
        self.bytes = 0
        self._open()

    def append(self, rows: Sequence[Row]) -> list[int]:
        """Store the rows with one fsync and return their numbers; raises SpoolError, and then none is stored.

        Room is made in the same transaction: what is too old goes, then the lowest priority, oldest first.
        """
        try:
            return self._guarded(lambda: self._append(rows))
        except SpoolError as error:
            self._missed.update(row.priority for row in rows)
            self.dropped.update(row.priority for row in rows)
            self._why_missed = str(error)
            raise

    def floor(self) -> int:
        """The lowest number held; the next number when the spool is empty."""
        return self._guarded(lambda: self._number("SELECT min(seq) FROM rows") or self._next())

    def count(self) -> int:
        """How many rows wait."""
        return self._guarded(lambda: self._number("SELECT count(*) FROM rows"))

    def pending(self, limit: int, *, oldest: bool = False) -> list[Pending]:
        """The first rows by priority and number, or by number alone."""
        order = "seq" if oldest else "priority, seq"
        query = f"SELECT seq, priority FROM rows ORDER BY {order} LIMIT ?"  # noqa: S608 - one of two constants
        found = self._guarded(lambda: self._db.execute(query, (limit,)).fetchall())
        return [Pending(seq, Priority(priority)) for seq, priority in found]

    def body(self, seq: int) -> bytes | None:
        """The JSON of a row's `Body`; None when it has left."""
        query = "SELECT body FROM rows WHERE seq = ?"
        found = self._guarded(lambda: self._db.execute(query, (seq,)).fetchone())
        return found[0] if found else None

    def ack(self, epoch: str, seq: int) -> int:
        """Remove every row up to `seq` and return how many left; another epoch is ignored.

        A number that was never given means that this file is older than what the inventory has seen of it (a disk
        image restored): a new epoch begins, so that no row is taken for one that is known.
        """
        if epoch != self.epoch:
            return 0
        return self._guarded(lambda: self._trim(seq) if seq < self._next() else self._rewound(seq))

    def close(self) -> None:
        """Close the file; what it holds stays."""
        self._db.close()

    # -- the file ------------------------------------------------------------------------------------------------------

    def _guarded(self, work: Callable[[], T]) -> T:
        """Do `work`; a damaged file is replaced and `work` done again, any other trouble is a SpoolError."""
        try:
            try:
                return work()
            except sqlite3.DatabaseError as error:
                if not _damaged(error):
                    raise
                self._replace(str(error))
                return work()
        except (sqlite3.Error, OSError) as error:
            raise SpoolError(f"{self.path}: {error}") from None

    def _open(self) -> None:
        self._db = sqlite3.connect(":memory:")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._guarded(self._begin)
        except (OSError, SpoolError) as error:
            self._db.close()
            raise error if isinstance(error, SpoolError) else SpoolError(f"{self.path}: {error}") from None

    def _begin(self) -> None:
        """Connect, unless a damaged file was just replaced by one that is connected."""
        if not self.epoch:
            self._connect()

    def _connect(self) -> None:
        self._db.close()
        self._db = sqlite3.connect(self.path, timeout=5.0)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "cache_size=-256", "journal_size_limit=4194304"):
            self._db.execute(f"PRAGMA {pragma}")
        version = self._number("PRAGMA user_version")
        if version == 0 and self._number("SELECT count(*) FROM sqlite_schema") == 0:
            self._create()
        elif version != VERSION:
            raise _UntrustedError(f"not a spool of version {VERSION}")
        verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise _UntrustedError(str(verdict))
        self.epoch = self._db.execute("SELECT epoch FROM meta").fetchone()[0]
        self.bytes = self._number(_HELD)

    def _create(self) -> None:
        with self._db:
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={VERSION};")
            self._db.execute("INSERT INTO meta VALUES (?)", (str(uuid.uuid4()),))

    def _replace(self, why: str) -> None:
        """Move a file that cannot be trusted aside and begin a new epoch, whose first row tells of it."""
        self._db.close()
        aside = self.path.with_name(f"{self.path.name}.corrupt-{int(self._now() * 1000)}")
        for suffix in _SUFFIXES:
            part = self.path.with_name(self.path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        statefile.sync_directory(self.path.parent)
        self._connect()
        text = f"the spool was damaged ({why}); its file is kept as {aside.name} and a new one was begun"
        self._tell("spool.corrupt", Severity.CRITICAL, text, {"file": str(aside), "reason": why})
        self._forget_old_ones()

    def _forget_old_ones(self) -> None:
        names = sorted(self.path.parent.glob(f"{self.path.name}.corrupt-*[0-9]"))
        for old in names[:-CORRUPT_KEPT]:
            for suffix in _SUFFIXES:
                old.with_name(old.name + suffix).unlink(missing_ok=True)

    def _number(self, query: str) -> int:
        return self._db.execute(query).fetchone()[0] or 0

    def _next(self) -> int:
        return self._number("SELECT max(seq) FROM sqlite_sequence WHERE name = 'rows'") + 1

    # -- what comes in and what goes -----------------------------------------------------------------------------------

    def _append(self, rows: Sequence[Row]) -> list[int]:
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            added = [self._insert(row.priority, msgspec.json.encode(row.body)) for row in rows]
            held = self.bytes + sum(row.size for row in added)
            gone = self._make_room(added, held)
            told = self._tell_missed() + self._tell_gaps()
        self.bytes = held + sum(told) - sum(row.size for row in gone)
        self.dropped.update(Priority(row.priority) for row in gone)
        self._missed.clear()
        return [row.seq for row in added]

    def _insert(self, priority: int, body: bytes) -> _Held:
        number = self._db.execute(_INSERT, (priority, int(self._now() * 1000), body)).lastrowid
        return _Held(number or 0, priority, len(body))

    def _make_room(self, added: Sequence[_Held], held: int) -> list[_Held]:
        """Drop what may not stay, with its place in the gap table: too large, too old, least of a full spool."""
        gone = [self._drop(row, "too large") for row in added if row.size > min(MAX_ROW, self.max_bytes)]
        limit_ms = int((self._now() - self.max_age_s) * 1000)
        old = self._db.execute(_OLD, (limit_ms,)).fetchall()
        gone += [self._drop(_Held(*row), "too old") for row in old]
        held -= sum(row.size for row in gone)
        while held > self.max_bytes:
            least = _Held(*self._db.execute(_LEAST).fetchone())
            gone.append(self._drop(least, "spool full"))
            held -= least.size
        return gone

    def _drop(self, row: _Held, reason: str) -> _Held:
        self._db.execute("DELETE FROM rows WHERE seq = ?", (row.seq,))
        self._db.execute(_ADD_GAP, (row.priority, reason, row.seq, row.seq, 1))
        return row

    def _tell_missed(self) -> list[int]:
        """Rows that got no number because they could not be stored."""
        return [
            self._gap(priority, self._why_missed, 0, 0, count).size for priority, count in sorted(self._missed.items())
        ]

    def _tell_gaps(self) -> list[int]:
        if self._now() - self._told_at < GAP_EVERY_S:
            return []
        gaps = self._db.execute("SELECT priority, reason, from_seq, to_seq, count FROM gaps").fetchall()
        if gaps:
            self._told_at = self._now()
            self._db.execute("DELETE FROM gaps")
        return [self._gap(Priority(gap[0]), *gap[1:]).size for gap in gaps]

    def _gap(self, priority: Priority, reason: str, from_seq: int, to_seq: int, count: int) -> _Held:
        data: dict[str, str | int | float | bool | None] = {
            "from_seq": from_seq,
            "to_seq": to_seq,
            "count": count,
            "reason": reason,
            "priority": priority.name.lower(),
        }
        text = f"{count} {priority.name.lower()} rows were lost: {reason}"
        return self._insert_event("spool.gap", Severity.WARNING, text, data)

    def _tell(self, kind: str, severity: Severity, text: str, data: dict[str, str | int | float | bool | None]) -> None:
        with self._db:
            self.bytes += self._insert_event(kind, severity, text, data).size

    def _insert_event(
        self, kind: str, severity: Severity, text: str, data: dict[str, str | int | float | bool | None]
    ) -> _Held:
        event = Event(at_ms=int(self._now() * 1000), kind=kind, severity=severity, text=text, data=data)
        return self._insert(Priority.EVENT, msgspec.json.encode(event_row(event).body))

    def _trim(self, seq: int) -> int:
        self._db.execute("PRAGMA synchronous=NORMAL")
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                sizes = self._db.execute(_ACKED, (seq,)).fetchall()
        finally:
            self._db.execute("PRAGMA synchronous=FULL")
        self.bytes -= sum(size for (size,) in sizes)
        return len(sizes)

    def _rewound(self, seq: int) -> int:
        epoch = str(uuid.uuid4())
        with self._db:
            self._db.execute("UPDATE meta SET epoch = ?", (epoch,))
        self.epoch = epoch
        text = f"the spool is older than what the inventory has of it (row {seq}); a new epoch was begun"
        self._tell("spool.rewound", Severity.WARNING, text, {"seq": seq})
        return 0


def _damaged(error: sqlite3.DatabaseError) -> bool:
    if isinstance(error, _UntrustedError):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
