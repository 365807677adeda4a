"""What hosts are to be and what came of it: policies, desired documents, reported states."""

from typing import TYPE_CHECKING, Any

import msgspec

from hwdb.db import rows
from hwdb.store import host_status
from wire.codec import decode, encode
from wire.policy import DESIRED, REPORTED, Desired, Reported

if TYPE_CHECKING:
    from hwdb.db import Conn


class PolicyEntry(msgspec.Struct, kw_only=True):
    """One active policy as it was given."""

    name: str
    text: str
    hash: str
    priority: int
    created_ms: int


class StatusEntry(msgspec.Struct, kw_only=True):
    """How one host stands to its newest desired document."""

    host_id: str
    hostname: str
    online: bool
    generation: int
    status: str  # as in `store.HostEntry`
    reported: Reported | None


def policies(conn: "Conn") -> list[PolicyEntry]:
    """The active policies, by name."""
    sql = "SELECT name, text, hash, priority, created_ms FROM policy WHERE removed_ms IS NULL ORDER BY name"
    return [_policy(row) for row in rows(conn, sql)]


def policy(conn: "Conn", name: str) -> PolicyEntry | None:
    """The active policy of that name."""
    sql = "SELECT name, text, hash, priority, created_ms FROM policy WHERE removed_ms IS NULL AND name = :name"
    return next((_policy(row) for row in rows(conn, sql, {"name": name})), None)


def _policy(row: tuple[Any, ...]) -> PolicyEntry:
    return PolicyEntry(name=row[0], text=row[1], hash=row[2], priority=row[3], created_ms=row[4])


def put_policy(conn: "Conn", new: PolicyEntry, *, again: bool = False) -> bool:
    """Make this the active policy of its name; False when it is already, to the letter, and not given `again`."""
    old = policy(conn, new.name)
    if old and not again and (old.text, old.priority) == (new.text, new.priority):
        return False
    remove_policy(conn, new.name, new.created_ms)
    sql = """INSERT INTO policy (name, text, hash, priority, created_ms)
      VALUES (:name, :text, :hash, :priority, :created_ms)"""
    rows(conn, sql, msgspec.structs.asdict(new))
    return True


def remove_policy(conn: "Conn", name: str, at_ms: int) -> bool:
    """Take the active policy of that name away; False when there is none."""
    there = policy(conn, name) is not None
    sql = "UPDATE policy SET removed_ms = :at_ms WHERE name = :name AND removed_ms IS NULL"
    rows(conn, sql, {"name": name, "at_ms": at_ms})
    return there


def desired(conn: "Conn", host_id: str) -> Desired | None:
    """The newest desired document of a host."""
    sql = "SELECT document FROM desired WHERE host_id = :host_id ORDER BY generation DESC LIMIT 1"
    return next((decode(DESIRED, row[0].encode()) for row in rows(conn, sql, {"host_id": host_id})), None)


def put_desired(conn: "Conn", document: Desired, at_ms: int) -> None:
    """Add a generation; it becomes the one the host's status is measured by."""
    values = {"host_id": document.host_id, "generation": document.generation, "hash": document.hash}
    sql = """INSERT INTO desired (host_id, generation, hash, document, at_ms)
      VALUES (:host_id, :generation, :hash, :document, :at_ms)"""
    rows(conn, sql, {**values, "document": encode(document).decode(), "at_ms": at_ms})
    sql = "UPDATE host SET desired_generation = :generation, desired_hash = :hash WHERE host_id = :host_id"
    rows(conn, sql, values)


def reported(conn: "Conn", host_id: str) -> Reported | None:
    """What a host reported last."""
    sql = "SELECT document FROM reported WHERE host_id = :host_id"
    return next((decode(REPORTED, row[0].encode()) for row in rows(conn, sql, {"host_id": host_id})), None)


def statuses(conn: "Conn", host_id: str = "") -> list[StatusEntry]:
    """Every host (or one) that has a desired document, by hostname."""
    sql = """SELECT h.host_id, h.hostname, h.online, h.desired_generation, h.reported_generation, h.reported_status,
      r.document FROM host h LEFT JOIN reported r ON r.host_id = h.host_id
      WHERE h.desired_generation > 0 AND (:host_id = '' OR h.host_id = :host_id) ORDER BY h.hostname, h.host_id"""
    return [
        StatusEntry(
            host_id=row[0],
            hostname=row[1],
            online=bool(row[2]),
            generation=row[3],
            status=host_status(*row[3:6]),
            reported=decode(REPORTED, row[6].encode()) if row[6] else None,
        )
        for row in rows(conn, sql, {"host_id": host_id})
    ]
