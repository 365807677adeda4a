"""What a running lldpd says of its neighbours, from lldpcli's JSON of any version."""

import json
import re
from collections.abc import Iterator
from typing import Any, cast

from collectors.lldp_frame import MED_INVENTORY
from machine import MachineError
from wire.facts.cables import MOST_LISTED, Lldp
from wire.lldp import CHASSIS, PORT
from wire.text import clean

WORDS = ("-f", "json0", "show", "neighbors", "details")
MOST = 4096  # neighbours of one machine

# lldpd's words for capabilities -> IEEE 802.1AB's, as in `wire.lldp.CAPABILITIES`
_CAPABILITIES = {
    **{"other": "other", "repeater": "repeater", "bridge": "bridge", "wlan": "wlan", "router": "router"},
    **{"tel": "telephone", "docsis": "docsis", "station": "station"},
}
_MAC = re.compile(r"(?i)[0-9a-f]{2}(?::[0-9a-f]{2}){5}")


def parse_neighbours(text: str) -> list[Lldp]:
    """LLDP neighbours in lldpd's order, `key` empty and `port` the interface; raises MachineError for no JSON.

    Those of other protocols (CDP, EDP) are left out, so is what names neither a chassis nor a port.
    """
    try:
        said: Any = json.loads(text, strict=False)
    except (ValueError, RecursionError) as error:
        raise MachineError(f"lldpcli: {clean(str(error), 120)}") from None
    heard = [one for top in _items(said) for part in _items(top.get("lldp")) for one in _named(part.get("interface"))]
    found = [_neighbour(one) for one in heard[:MOST] if _text(one.get("via")).upper() in ("", "LLDP")]
    return [one for one in found if one.chassis_id or one.port_id]


def _neighbour(one: dict[str, Any]) -> Lldp:
    chassis, port = _first(list(_named(one.get("chassis")))), _first(one.get("port"))
    chassis_subtype, chassis_id = _identity(chassis, tuple(CHASSIS.values()))
    port_subtype, port_id = _identity(port, tuple(PORT.values()))
    autoneg, vlans = _first(port.get("auto-negotiation")), list(_items(one.get("vlan")))
    return Lldp(
        key="",
        port=clean(_text(one.get("name"))),
        source="lldpd",
        chassis_subtype=chassis_subtype,
        chassis_id=chassis_id,
        port_subtype=port_subtype,
        port_id=port_id,
        port_description=_value(port, "descr"),
        system_name=_value(chassis, "name"),
        system_description=_value(chassis, "descr"),
        capabilities=_capabilities(chassis),
        management=_values(chassis.get("mgmt-ip")),
        ttl_s=_number(_value(port, "ttl") or _value(chassis, "ttl")),
        pvid=next((_number(vlan.get("vlan-id")) for vlan in vlans if _on(vlan.get("pvid"))), None),
        vlans=_vlans(vlans),
        lag_port=(lag_port := _number(_value(port, "aggregation"))),
        lag=True if lag_port is not None else None,
        max_frame_bytes=_number(_value(port, "mfs")),
        autoneg=_on(autoneg.get("enabled")) if "enabled" in autoneg else None,
        mau=_value(autoneg, "current").partition(" - ")[0],
        power=_power(_first(port.get("power"))),
        med=_med(_first(_first(one.get("lldp-med")).get("inventory"))),
    )


def _identity(part: dict[str, Any], words: tuple[str, ...]) -> tuple[str, str]:
    said = _first(part.get("id"))
    word, value = clean(_text(said.get("type")), 32), clean(_text(said.get("value")))
    if _MAC.fullmatch(value):
        value = value.lower()
    return (word if word in words else word or "local" if value else ""), value


def _capabilities(chassis: dict[str, Any]) -> list[str]:
    on = [_text(one.get("type")).lower() for one in _items(chassis.get("capability")) if _on(one.get("enabled"))]
    return sorted({_CAPABILITIES[word] for word in on if word in _CAPABILITIES})


def _vlans(vlans: list[dict[str, Any]]) -> dict[int, str]:
    """Those with a name; the port's own VLAN may stand there without one."""
    found = {_number(vlan.get("vlan-id")): clean(_text(vlan.get("value"))) for vlan in vlans[:MOST_LISTED]}
    return {number: name for number, name in found.items() if number is not None and name}


def _power(said: dict[str, Any]) -> str:
    kind = _value(said, "device-type")
    if not kind or not (_on(said.get("supported")) or _on(said.get("enabled"))):
        return ""
    return clean(f"{kind} {_value(said, 'class')}".strip(), 64)


def _med(inventory: dict[str, Any]) -> dict[str, str]:
    found = {name: _value(inventory, name) for name in MED_INVENTORY.values()}
    return {name: text for name, text in found.items() if text}


def _items(said: Any) -> Iterator[dict[str, Any]]:
    """The objects of a list; one object alone, as lldpd's shorter JSON has it; none of anything else."""
    yield from (cast("dict[str, Any]", one) for one in _listed(said) if isinstance(one, dict))


def _listed(said: Any) -> list[Any]:
    if not isinstance(said, list):
        return [said]
    listed: list[Any] = said  # pyright: ignore[reportUnknownVariableType]
    return listed


def _named(said: Any) -> Iterator[dict[str, Any]]:
    """Objects with their `name` inside; in the shorter JSON it stands outside: {"eth0": {...}}."""
    for one in _items(said):
        if any(word in one for word in ("name", "id", "via", "chassis")) or len(one) != 1:
            yield one
            continue
        ((name, inner),) = one.items()
        for each in _items(inner):
            yield {"name": name, **each}


def _first(said: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {}
    return next(_items(said), empty)


def _text(said: Any) -> str:
    return said if isinstance(said, str) else str(said) if type(said) is int else ""


def _value(part: dict[str, Any], name: str) -> str:
    """The text of `name`: bare, or in an object's `value`, or that of the first of several."""
    return next(iter(_values(part.get(name))), "")


def _values(said: Any) -> list[str]:
    objects = {id(one): _text(one.get("value")) for one in _items(said)}
    found = [objects.get(id(one)) or _text(one) for one in _listed(said)[:MOST_LISTED]]
    return list(dict.fromkeys(text for one in found if (text := clean(one))))


def _number(said: Any) -> int | None:
    text = _text(said)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else None


def _on(said: Any) -> bool:
    """lldpd says true and false, older ones "yes", "on"."""
    return said is True or _text(said).lower() in ("yes", "on", "true")
