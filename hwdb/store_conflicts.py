"""Machines that claim to be a host they may not be: the queue, and what people decide."""

from typing import TYPE_CHECKING, Any

import msgspec

from hwdb.db import rows
from hwdb.identity import identifiers
from hwdb.store import StoreError
from wire.report import BIRTH, Birth, Fingerprint

if TYPE_CHECKING:
    from hwdb.db import Conn

_FINGERPRINT = msgspec.json.Decoder(Fingerprint)


class UnknownConflictError(StoreError):
    """No conflict with that number waits."""


class ConflictEntry(msgspec.Struct, kw_only=True):
    """One conflict; `old` is the host as it was known, `birth` what the other machine said."""

    id: int
    site: str
    host_id: str
    start: str
    other_id: str  # the host that has this hardware under another id, "" for a clone of the same id
    reason: str
    state: str  # queued | accepted | rejected
    at_ms: int
    old: Fingerprint
    birth: Birth


_SELECT = "SELECT id, site, host_id, start, other_id, reason, state, at_ms, old, birth FROM conflict"


def conflicts(conn: "Conn", state: str = "queued") -> list[ConflictEntry]:
    """The conflicts in that state ("" for all), oldest first."""
    sql = f"{_SELECT} WHERE :state = '' OR state = :state ORDER BY id"
    return [_entry(row) for row in rows(conn, sql, {"state": state})]


def _entry(row: tuple[Any, ...]) -> ConflictEntry:
    return ConflictEntry(
        id=row[0],
        site=row[1],
        host_id=row[2],
        start=row[3],
        other_id=row[4],
        reason=row[5],
        state=row[6],
        at_ms=row[7],
        old=_FINGERPRINT.decode(row[8]),
        birth=BIRTH.decode(row[9]),
    )


def _queued(conn: "Conn", number: int) -> ConflictEntry:
    found = rows(conn, f"{_SELECT} WHERE id = :id AND state = 'queued'", {"id": number})
    if not found:
        raise UnknownConflictError(f"no conflict {number} waits")
    return _entry(found[0])


def reject(conn: "Conn", number: int, at_ms: int) -> ConflictEntry:
    """It is a clone: nothing it says is taken, neither now nor after its next start. Raises UnknownConflictError."""
    conflict = _queued(conn, number)
    _resolve(conn, conflict, "rejected", "rejected", at_ms)
    return conflict


def accept(conn: "Conn", number: int, at_ms: int) -> ConflictEntry:
    """It is the host from now on; the caller sends it the command `rebirth`. Raises UnknownConflictError.

    Starts of the machine it was before are no longer admitted, and its spool is taken as a new one: a copy of a spool
    counts on from the same number.
    """
    conflict = _queued(conn, number)
    named = {"host_id": conflict.host_id, "at_ms": at_ms}
    rows(
        conn, "UPDATE host_start SET admission = 'rejected' WHERE host_id = :host_id AND admission = 'admitted'", named
    )
    rows(
        conn, "DELETE FROM stream WHERE host_id = :host_id AND epoch = :epoch", {**named, "epoch": conflict.birth.epoch}
    )
    _resolve(conn, conflict, "accepted", "admitted", at_ms)
    _adopt(conn, conflict, at_ms)
    return conflict


def _resolve(conn: "Conn", conflict: ConflictEntry, state: str, admission: str, at_ms: int) -> None:
    """The same machine may have queued several starts: all go the same way."""
    for other in conflicts(conn):
        same = other.host_id == conflict.host_id and other.birth.fingerprint == conflict.birth.fingerprint
        if not same:
            continue
        named = {"id": other.id, "host_id": other.host_id, "start": other.start, "at_ms": at_ms}
        rows(conn, f"UPDATE conflict SET state = '{state}', resolved_ms = :at_ms WHERE id = :id", named)  # noqa: S608
        sql = f"UPDATE host_start SET admission = '{admission}' WHERE host_id = :host_id AND start = :start"  # noqa: S608
        rows(conn, sql, named)


def _adopt(conn: "Conn", conflict: ConflictEntry, at_ms: int) -> None:
    """The host has this fingerprint now; its next birth fills in the rest."""
    born = conflict.birth
    values = {
        "host_id": conflict.host_id,
        "site": conflict.site,
        "hostname": born.hostname,
        "epoch": born.epoch,
        "start": conflict.start,
        "fingerprint": msgspec.json.encode(born.fingerprint).decode(),
        "at_ms": at_ms,
    }
    rows(
        conn,
        """INSERT INTO host (host_id, site, hostname, start, epoch, fingerprint, first_ms, last_ms)
      VALUES (:host_id, :site, :hostname, :start, :epoch, :fingerprint, :at_ms, :at_ms)
      ON CONFLICT (host_id) DO UPDATE SET start = excluded.start, epoch = excluded.epoch,
        fingerprint = excluded.fingerprint, birth_ms = 0""",
        values,
    )
    rows(conn, "DELETE FROM identifier WHERE host_id = :host_id", values)
    for part, value in identifiers(born.fingerprint):
        sql = "INSERT INTO identifier (part, value, host_id) VALUES (:part, :value, :host_id)"
        rows(conn, sql, {"part": part, "value": value, "host_id": conflict.host_id})
    sql = """INSERT INTO event (host_id, at_ms, kind, severity, text)
      VALUES (:host_id, :at_ms, 'host.accepted', 'warning', :text)"""
    rows(conn, sql, {"host_id": conflict.host_id, "at_ms": at_ms, "text": f"conflict accepted: {conflict.reason}"})
