"""What people ask a host to do: kept with who asked, sent by the loop, answered by the host."""

import enum
from typing import TYPE_CHECKING

import msgspec

from hwdb.db import rows

if TYPE_CHECKING:
    from hwdb.db import Conn

_ARGS = msgspec.json.Decoder(dict[str, str])


class Diagnosis(enum.StrEnum):
    """What the command `diagnose` can ask a NIC for."""

    IDENTIFY = "identify"  # its LED blinks
    CABLE_TEST = "cable-test"
    SELF_TEST = "self-test"
    MODULE = "module"  # the memory of its transceiver, in hexadecimal


class CommandEntry(msgspec.Struct, kw_only=True):
    """One command; `sent_ms` is 0 until it was handed to the broker."""

    id: str
    host_id: str
    verb: str
    args: dict[str, str] = {}
    asked_by: str = ""
    asked_ms: int = 0
    sent_ms: int = 0
    site: str = ""  # of the host


class Answer(msgspec.Struct, kw_only=True):
    """What came of a command."""

    ok: bool
    text: str
    at_ms: int


def put_command(conn: "Conn", new: CommandEntry) -> None:
    """Keep a command to be sent."""
    sql = """INSERT INTO command (id, host_id, verb, args, asked_by, asked_ms)
      VALUES (:id, :host_id, :verb, :args, :asked_by, :asked_ms)"""
    given = {name: getattr(new, name) for name in ("id", "host_id", "verb", "asked_by", "asked_ms")}
    rows(conn, sql, {**given, "args": msgspec.json.encode(new.args).decode()})


def due(conn: "Conn", since_ms: int) -> list[CommandEntry]:
    """Commands that wait and were asked for since then, oldest first; what waited for longer is sent no more."""
    sql = """SELECT c.id, c.host_id, c.verb, c.args, c.asked_by, c.asked_ms, h.site FROM command c
      JOIN host h ON h.host_id = c.host_id WHERE c.sent_ms = 0 AND c.asked_ms >= :since_ms ORDER BY c.asked_ms, c.id"""
    return [
        CommandEntry(
            id=row[0],
            host_id=row[1],
            verb=row[2],
            args=_ARGS.decode(row[3]),
            asked_by=row[4],
            asked_ms=row[5],
            site=row[6],
        )
        for row in rows(conn, sql, {"since_ms": since_ms})
    ]


def put_sent(conn: "Conn", command_id: str, at_ms: int) -> None:
    """Remember that it was handed to the broker."""
    rows(conn, "UPDATE command SET sent_ms = :at_ms WHERE id = :id", {"id": command_id, "at_ms": at_ms})


def sent_ms(conn: "Conn", command_id: str) -> int:
    """When it was handed to the broker, 0 while it was not."""
    found = rows(conn, "SELECT sent_ms FROM command WHERE id = :id", {"id": command_id})
    return int(found[0][0]) if found else 0


def answer(conn: "Conn", command_id: str, host_id: str) -> Answer | None:
    """What the host said came of it; None while it has not."""
    sql = "SELECT ok, text, at_ms FROM result WHERE id = :id AND host_id = :host_id"
    found = rows(conn, sql, {"id": command_id, "host_id": host_id})
    return Answer(ok=bool(found[0][0]), text=found[0][1], at_ms=found[0][2]) if found else None
