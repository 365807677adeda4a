"""What happened and what was measured: events, findings, history, samples, and what could not be taken."""

from typing import TYPE_CHECKING, Any

import msgspec

from hwdb.db import rows

if TYPE_CHECKING:
    from hwdb.db import Conn

Scalar = str | int | float | bool | None

_DATA = msgspec.json.Decoder(dict[str, Scalar])
_SEVERITY = "CASE f.severity WHEN 'critical' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END"


class EventEntry(msgspec.Struct, kw_only=True):
    """One event of one host."""

    id: int
    host_id: str
    hostname: str
    at_ms: int
    kind: str
    key: str
    severity: str
    text: str
    data: dict[str, Scalar]


class FindingEntry(msgspec.Struct, kw_only=True):
    """One finding of one host; `closed_ms` is None while it is open."""

    host_id: str
    hostname: str
    rule: str
    key: str
    target: str
    severity: str
    text: str
    remedy: str
    opened_ms: int
    closed_ms: int | None


class HistoryEntry(msgspec.Struct, kw_only=True):
    """One change of one component; `before` and `after` are JSON, None where there was nothing."""

    host_id: str
    kind: str
    key: str
    at_ms: int
    change: str  # appeared | changed | removed
    path: str
    before: str | None
    after: str | None


class LatestEntry(msgspec.Struct, kw_only=True):
    """The newest value of one series."""

    collector: str
    metric: str
    key: str
    value: float
    at_ms: int


class DeadEntry(msgspec.Struct, kw_only=True):
    """One message that could not be taken."""

    id: int
    topic: str
    payload: str
    bytes: int
    reason: str
    at_ms: int


class UnknownEntry(msgspec.Struct, kw_only=True):
    """Items of one kind that this release does not know."""

    host_id: str
    collector: str
    kind: str
    raw: str
    reason: str
    seen: int
    at_ms: int


def _structs(kind: Any, found: list[tuple[Any, ...]]) -> list[Any]:
    names = kind.__struct_fields__
    return [kind(**dict(zip(names, row, strict=True))) for row in found]


def events(conn: "Conn", host_id: str = "", *, after: int = 0, limit: int = 100) -> list[EventEntry]:
    """Events oldest first: the newest `limit`, or with `after` the first `limit` above that id."""
    order = "ASC" if after else "DESC"
    sql = f"""SELECT e.id, e.host_id, h.hostname, e.at_ms, e.kind, e.key, e.severity, e.text, e.data
      FROM event e JOIN host h ON h.host_id = e.host_id
      WHERE e.id > :after AND (:host_id = '' OR e.host_id = :host_id) ORDER BY e.id {order} LIMIT :limit"""  # noqa: S608
    found = rows(conn, sql, {"after": after, "host_id": host_id, "limit": limit})
    return _structs(EventEntry, sorted((*row[:8], _DATA.decode(row[8])) for row in found))


def findings(conn: "Conn", host_id: str = "", *, closed: bool = False) -> list[FindingEntry]:
    """Open findings, worst first (with `closed`, those that were closed too)."""
    sql = f"""SELECT f.host_id, h.hostname, f.rule, f.key, f.target, f.severity, f.text, f.remedy,
        f.opened_ms, f.closed_ms FROM finding f JOIN host h ON h.host_id = f.host_id
      WHERE (:closed = 1 OR f.closed_ms IS NULL) AND (:host_id = '' OR f.host_id = :host_id)
      ORDER BY {_SEVERITY}, h.hostname, f.rule, f.key, f.id"""  # noqa: S608
    return _structs(FindingEntry, rows(conn, sql, {"host_id": host_id, "closed": int(closed)}))


def history(conn: "Conn", host_id: str, kind: str = "", key: str = "") -> list[HistoryEntry]:
    """What changed on a host (of a kind, of a component), oldest first."""
    sql = """SELECT host_id, kind, key, at_ms, change, path, before, after FROM history
      WHERE host_id = :host_id AND (:kind = '' OR kind = :kind) AND (:key = '' OR key = :key) ORDER BY id"""
    return _structs(HistoryEntry, rows(conn, sql, {"host_id": host_id, "kind": kind, "key": key}))


def latest(conn: "Conn", host_id: str) -> list[LatestEntry]:
    """The newest values of a host, by collector: of each one's newest whole run and the partial ones since."""
    sql = "SELECT collector, samples_ms, moved_ms FROM collector_state WHERE host_id = :host_id AND samples_ms > 0"
    runs = {row[0]: [row[1], *map(int, row[2].split())] for row in rows(conn, sql, {"host_id": host_id})}
    times = {at_ms for found in runs.values() for at_ms in found}
    if not times:
        return []
    among = ", ".join(map(str, sorted(times)))  # integers of ours
    sql = f"""SELECT n.metric, n.key, s.value, s.at_ms FROM sample s JOIN series n ON n.id = s.series_id
      WHERE n.host_id = :host_id AND s.at_ms IN ({among}) ORDER BY s.at_ms"""  # noqa: S608
    newest: dict[tuple[str, str, str], tuple[float, int]] = {}
    for metric, key, value, at_ms in rows(conn, sql, {"host_id": host_id}):
        collector = metric.partition(".")[0]
        if at_ms in runs.get(collector, ()):
            newest[collector, metric, key] = value, at_ms
    return _structs(LatestEntry, [(*name, *newest[name]) for name in sorted(newest)])


def samples(conn: "Conn", host_id: str, metric: str, key: str = "", *, since_ms: int) -> list[tuple[int, float]]:
    """(at_ms, value) of one series, oldest first."""
    sql = """SELECT s.at_ms, s.value FROM sample s JOIN series n ON n.id = s.series_id
      WHERE n.host_id = :host_id AND n.metric = :metric AND n.key = :key AND s.at_ms >= :since_ms ORDER BY s.at_ms"""
    named = {"host_id": host_id, "metric": metric, "key": key, "since_ms": since_ms}
    return [(row[0], row[1]) for row in rows(conn, sql, named)]


def dead_letters(conn: "Conn", limit: int = 100) -> list[DeadEntry]:
    """The newest messages that could not be taken, newest first."""
    sql = "SELECT id, topic, payload, bytes, reason, at_ms FROM dead_letter ORDER BY id DESC LIMIT :limit"
    return _structs(DeadEntry, rows(conn, sql, {"limit": limit}))


def unknown_items(conn: "Conn", host_id: str = "") -> list[UnknownEntry]:
    """Items put aside, by host, collector and kind."""
    sql = """SELECT host_id, collector, kind, raw, reason, seen, at_ms FROM unknown_item
      WHERE :host_id = '' OR host_id = :host_id ORDER BY host_id, collector, kind"""
    return _structs(UnknownEntry, rows(conn, sql, {"host_id": host_id}))
