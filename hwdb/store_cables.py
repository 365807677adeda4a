"""Questions about cables: both ends' LLDP of all machines, and how it changed, as the join wants them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from hwdb.cable_ends import Fleet, box
from hwdb.cables import CHANGED_MS, CableEntry, Heard, cables
from hwdb.db import rows
from wire.codec import decode
from wire.facts import Lldp, Nic, Port
from wire.facts.rack import Device

if TYPE_CHECKING:
    from hwdb.db import Conn

WHO = ("chassis_id", "chassis_subtype", "port_id", "port_subtype", "port_description", "system_name")

_END: "msgspec.json.Decoder[Nic | Port | Lldp | Device]" = msgspec.json.Decoder(Nic | Port | Lldp | Device)
_LLDP = msgspec.json.Decoder(Lldp)
_KINDS = "('nic', 'port', 'lldp', 'device')"
_COMPONENTS = f"""SELECT h.host_id, h.hostname, c.data, c.first_ms FROM component c JOIN host h ON h.host_id = c.host_id
  WHERE c.kind IN {_KINDS} AND c.removed_ms IS NULL ORDER BY h.host_id, c.kind, c.key"""  # noqa: S608 - constants
_GONE = "SELECT host_id, data, removed_ms FROM component WHERE kind = 'lldp' AND removed_ms >= :since_ms"
_CHANGES = f"""SELECT y.host_id, y.key, y.at_ms, y.path, y.before FROM component c
  JOIN history y ON y.host_id = c.host_id AND y.kind = c.kind AND y.key = c.key
  WHERE c.kind = 'lldp' AND c.removed_ms IS NULL AND y.change = 'changed' AND y.path IN {WHO} ORDER BY y.id"""  # noqa: S608

Changes = Mapping[tuple[str, str], tuple[int, Mapping[str, Any]]]


def all_cables(conn: "Conn", now_ms: int, host_id: str = "") -> list[CableEntry]:
    """Every cable of the fleet, or those with an end at one host."""
    machines: dict[str, tuple[str, list[tuple[Nic | Port | Lldp | Device, int]]]] = {}
    for owner, hostname, data, first_ms in rows(conn, _COMPONENTS):
        machines.setdefault(owner, (hostname, []))[1].append((decode(_END, data.encode()), first_ms))
    changes = _changes(conn)
    heard = [
        _heard(owner, fact, first_ms, changes)
        for owner, (_, facts) in machines.items()
        for fact, first_ms in facts
        if isinstance(fact, Lldp)
    ]
    fleet = Fleet(
        box(
            owner,
            hostname,
            [fact for fact, _ in facts if not isinstance(fact, Device)],
            [fact.name for fact, _ in facts if isinstance(fact, Device)],
        )
        for owner, (hostname, facts) in machines.items()
    )
    gone = [
        Heard(owner, decode(_LLDP, data.encode()), 0, removed_ms)
        for owner, data, removed_ms in rows(conn, _GONE, {"since_ms": now_ms - CHANGED_MS})
        if owner in fleet.boxes
    ]
    return [one for one in cables(fleet, heard, now_ms, gone) if host_id in ("", one.host_id, one.peer_id)]


def _changes(conn: "Conn") -> Changes:
    """(host, key) -> when its neighbour became another one last, and the fields as they were."""
    found: dict[tuple[str, str], tuple[int, dict[str, Any]]] = {}
    for host_id, key, at_ms, path, before in rows(conn, _CHANGES):
        last_ms, fields = found.get((host_id, key), (0, {}))
        if at_ms != last_ms:
            fields = {}
        fields[path] = msgspec.json.decode(before) if before else None
        found[host_id, key] = at_ms, fields
    return found


def _heard(host_id: str, fact: Lldp, first_ms: int, changes: Changes) -> Heard:
    if (host_id, fact.key) not in changes:
        return Heard(host_id, fact, first_ms)
    at_ms, fields = changes[host_id, fact.key]
    was = {name: value if isinstance(value, str) else "" for name, value in fields.items()}
    return Heard(host_id, fact, first_ms, at_ms, msgspec.structs.replace(fact, **was))
