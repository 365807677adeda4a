"""What one transaction knows and is going to write: rows read once, changed in memory, written at the end in bulk."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from sqlalchemy import Connection, Table, and_, bindparam, delete, or_, select

from hwdb import models
from hwdb.identity import identifiers
from hwdb.ingest_messages import Run, Unknown, clean
from hwdb.ingest_pipe import Statement
from hwdb.ingest_rows import (
    COLD,
    CollectorRow,
    ComponentRow,
    HostRow,
    StartRow,
    load,
    load_starts,
    load_told,
    overwrite,
    save_unknown,
    saving,
)
from hwdb.ingest_samples import Send, Told, hold
from hwdb.ingest_stream import Stream
from wire.policy import Reported
from wire.report import Ack, Birth, Fingerprint

K = TypeVar("K", str, tuple[str, str])
V = TypeVar("V")


class Conflict(NamedTuple):
    """A birth that waits for people: see `hwdb.identity`."""

    site: str
    host_id: str
    start: str
    reason: str
    other_id: str = ""


@dataclass
class BatchResult:
    """What a batch came to. Acks are safe to send: the rows are committed and on disk."""

    acks: list[tuple[str, Ack]] = field(default_factory=list[tuple[str, Ack]])  # (site, Ack)
    births: list[tuple[str, Birth]] = field(default_factory=list[tuple[str, Birth]])  # admitted, to be answered
    rebirth: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])  # (site, host_id) of unknown starts
    conflicts: list[Conflict] = field(default_factory=list[Conflict])  # newly queued
    changed: list[str] = field(default_factory=list[str])  # host_ids whose facts changed
    dead: int = 0  # messages in the dead letters
    unknown: int = 0  # items put aside
    rows: int = 0  # samples, events and changed facts written


class Known(Generic[K, V]):
    """Rows by key, and which of them changed; `cold` is what of a row changes seldom."""

    def __init__(self, cold: Callable[[V], object]) -> None:
        self._cold = cold
        self._rows: dict[K, V] = {}
        self._written: dict[K, object] = {}
        self._changed: dict[K, V] = {}

    def read(self, rows: dict[K, V]) -> None:
        """Add rows as they are in the database."""
        self._rows |= rows
        self._written |= {key: self._cold(row) for key, row in rows.items()}

    def get(self, key: K) -> V | None:
        """The row, or None."""
        return self._rows.get(key)

    def put(self, key: K, row: V) -> None:
        """Add or change a row."""
        self._rows[key] = self._changed[key] = row

    def take_changed(self) -> tuple[list[V], list[V]]:
        """The rows changed since the last time, and apart those of which only hot columns did.

        Both by key: transactions then never wait for each other in a circle.
        """
        whole: list[V] = []
        hot: list[V] = []
        for key in sorted(self._changed):
            row = self._changed[key]
            cold = self._cold(row)
            (hot if self._written.get(key) == cold else whole).append(row)
            self._written[key] = cold
        self._changed = {}
        return whole, hot


class Batch:
    """The state of one transaction."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        self.is_postgres = conn.dialect.name == "postgresql"
        self.result = BatchResult()
        self.hosts = Known[str, HostRow](COLD[HostRow])
        self.starts = Known[tuple[str, str], StartRow](COLD[StartRow])
        self.streams = Known[tuple[str, str], Stream](COLD[Stream])
        self.collectors = Known[tuple[str, str], CollectorRow](COLD[CollectorRow])
        self.components: dict[str, dict[tuple[str, str], ComponentRow]] = {}
        self.facts: list[tuple[str, Run, int]] = []  # (host_id, run, at_ms), newer than those of that collector
        self.changed_facts: dict[tuple[str, str, str], ComponentRow] = {}
        self.stale: set[str] = set()  # hosts whose facts changed
        self.counted: set[str] = set()  # hosts of which errors were counted: findings rest on them too
        self.send: Send = hold
        self.samples: list[Told] = []  # that were not sent
        self.acks: dict[tuple[str, str, str], str] = {}  # (host_id, epoch, start) -> site
        self.rebirth: dict[str, str] = {}
        self._inserts: dict[str, list[dict[str, Any]]] = {}
        self._unknown: dict[tuple[str, str, str], dict[str, Any]] = {}
        self._identifiers: dict[str, list[tuple[str, str]]] = {}
        self._holders: dict[tuple[str, str], set[str]] = {}  # the same, turned round
        self._reported: dict[str, Reported] = {}
        self._results: dict[tuple[str, str], tuple[Any, ...]] = {}

    def load(self, hosts: list[str], starts: list[str]) -> None:
        """Read these hosts and what hangs on them; nobody else changes them until the transaction ends."""
        told = load_told(self.conn, hosts, starts)
        self.hosts.read({row.host_id: row for row in told.hosts})
        self.starts.read({(row.host_id, row.start): row for row in told.starts})
        self.streams.read({(row.host_id, row.epoch): row for row in told.streams})
        self.collectors.read({(row.host_id, row.collector): row for row in told.collectors})

    def load_starts(self, names: list[tuple[str, str]]) -> None:
        """Read those of these (host_id, start) that are not here."""
        absent = [name for name in names if self.starts.get(name) is None]
        if absent:
            hosts, starts = (sorted(set(part)) for part in zip(*absent, strict=True))
            rows = {(row.host_id, row.start): row for row in load_starts(self.conn, hosts, starts)}
            self.starts.read({name: rows[name] for name in absent if name in rows})

    def load_components(self, hosts: list[str]) -> None:
        """Read all components of these hosts."""
        self.components = {host_id: {} for host_id in hosts}
        for row in load(self.conn, ComponentRow, hosts) if hosts else []:
            self.components[row.host_id][row.kind, row.key] = row

    def put_samples(self, told: Told) -> None:
        """Send samples on their way at once, or keep them for the end of the batch."""
        self.result.rows += len(told[2])
        if not self.send(told):
            self.samples.append(told)

    def start(self, host_id: str, start: str) -> StartRow:
        """The row of this start, new when it was never heard of."""
        return self.starts.get((host_id, start)) or StartRow(host_id, start)

    def insert(self, table: Table, row: dict[str, Any]) -> None:
        """Append a row at the end of the batch; rows of a table have the same columns."""
        self._inserts.setdefault(table.name, []).append(row)

    def note(self, host_id: str, at_ms: int, kind: str, text: str) -> None:
        """An event that the inventory itself has to tell."""
        row = {"kind": kind, "key": "", "severity": "warning", "text": clean(text), "data": "{}"}
        self.insert(models.event, {"host_id": host_id, "at_ms": at_ms, **row})

    def put_aside(self, host_id: str, unknown: Unknown, at_ms: int) -> None:
        """Count an item that this release does not know, and keep the newest of its kind."""
        self.result.unknown += 1
        kind, raw = kind_of(unknown.item.raw), unknown.item.raw.decode("utf-8", "backslashreplace")
        key = (host_id, clean(unknown.collector, 200), kind)
        seen = self._unknown[key]["seen"] + 1 if key in self._unknown else 1
        self._unknown[key] = {
            **dict(zip(("host_id", "collector", "kind"), key, strict=True)),
            **{"raw": clean(raw), "reason": clean(unknown.item.reason), "seen": seen, "at_ms": at_ms},
        }

    def same_hardware(self, birth: Birth) -> list[HostRow]:
        """Other hosts that share a serial number or MAC with this birth, in the database and in this batch."""
        wanted = identifiers(birth.fingerprint)
        found = self._known_by(wanted) if wanted else set[str]()
        found = found.union(*(self._holders.get(part, ()) for part in wanted)) - {birth.host_id}
        absent = [host_id for host_id in sorted(found) if self.hosts.get(host_id) is None]
        others = load(self.conn, HostRow, absent) if absent else []
        return others + [row for host_id in sorted(found) if (row := self.hosts.get(host_id))]

    def _known_by(self, wanted: Sequence[tuple[str, str]]) -> set[str]:
        """Hosts in the database with one of these identifiers."""
        table = models.identifier
        # a row value IN a list makes SQLite scan the whole table; each equality finds its row by the primary key
        is_one = or_(*(and_(table.c.part == part, table.c.value == value) for part, value in wanted))
        return {str(row[0]) for row in self.conn.execute(select(table.c.host_id).where(is_one).distinct())}

    def was_rejected(self, birth: Birth) -> bool:
        """Whether people rejected this machine under this host_id before."""
        table = models.conflict
        query = select(table.c.birth).where(table.c.host_id == birth.host_id, table.c.state == "rejected")
        fingerprints = (FINGERPRINT_OF.decode(row[0]).fingerprint for row in self.conn.execute(query))
        return any(fingerprint == birth.fingerprint for fingerprint in fingerprints)

    def identify(self, host_id: str, parts: list[tuple[str, str]]) -> None:
        """From now on this host is found by these."""
        self._identifiers[host_id] = parts
        for part in parts:
            self._holders.setdefault(part, set()).add(host_id)

    def reported(self, host_id: str) -> tuple[int, int]:
        """(generation, at_ms) of what this host reported last; zeros when it never did."""
        if host_id in self._reported:
            return self._reported[host_id].generation, self._reported[host_id].at_ms
        table = models.reported
        query = select(table.c.generation, table.c.at_ms).where(table.c.host_id == host_id)
        row = self.conn.execute(query).one_or_none()
        return (row[0], row[1]) if row else (0, 0)

    def put_reported(self, told: Reported) -> None:
        """Overwrite what this host reported."""
        self._reported[told.host_id] = told

    def put_result(self, row: tuple[str, str, bool, str, int]) -> None:
        """Overwrite what came of a command (the columns of `models.result`)."""
        self._results[row[0], row[1]] = row

    def statements(self) -> list[Statement]:
        """What writes the changed rows; `flush` what refers to them."""
        return [
            *saving(self.conn, HostRow, *self.hosts.take_changed()),
            *saving(self.conn, StartRow, *self.starts.take_changed()),
            *saving(self.conn, Stream, *self.streams.take_changed()),
            *saving(self.conn, CollectorRow, *self.collectors.take_changed()),
            *saving(self.conn, ComponentRow, [self.changed_facts[key] for key in sorted(self.changed_facts)]),
        ]

    def flush(self) -> None:
        """Write everything else but samples."""
        overwrite(self.conn, models.reported, [_reported_row(self._reported[host]) for host in sorted(self._reported)])
        overwrite(self.conn, models.result, [self._results[key] for key in sorted(self._results)])
        save_unknown(self.conn, [self._unknown[key] for key in sorted(self._unknown)])
        self._flush_identifiers()
        for name, appended in self._inserts.items():
            self.conn.execute(models.metadata.tables[name].insert(), appended)
        self.result.rows += len(self.changed_facts) + len(self._inserts.get("event", ()))

    def _flush_identifiers(self) -> None:
        table = models.identifier
        if self._identifiers:
            self.conn.execute(delete(table).where(table.c.host_id == bindparam("host")), self._owners())
        rows = [
            {"part": part, "value": value, "host_id": host_id}
            for host_id, parts in sorted(self._identifiers.items())
            for part, value in parts
        ]
        if rows:
            self.conn.execute(table.insert(), rows)

    def _owners(self) -> list[dict[str, str]]:
        return [{"host": host_id} for host_id in sorted(self._identifiers)]


class _FingerprintOf(msgspec.Struct):
    fingerprint: Fingerprint


class _KindOf(msgspec.Struct):
    kind: str = ""


FINGERPRINT_OF = msgspec.json.Decoder(_FingerprintOf)
KIND_OF = msgspec.json.Decoder(_KindOf)


def _reported_row(told: Reported) -> tuple[Any, ...]:
    document = msgspec.json.encode(told).decode()
    start, content = clean(told.start), clean(told.hash, 200)
    return (told.host_id, start, told.generation, content, told.status.value, told.at_ms, document)


def kind_of(raw: bytes) -> str:
    """The item's own word for its kind, "" when it has none."""
    try:
        return clean(KIND_OF.decode(raw).kind, 80)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
