"""LLDP frames as neighbours: IEEE 802.1AB's TLVs, those of 802.1 and 802.3, and LLDP-MED's inventory."""

from machine import lldp
from wire.facts.cables import MOST_LISTED, Lldp
from wire.lldp import CHASSIS, MAUS, PORT, TSA, address, capabilities, identity
from wire.text import clean

_CHASSIS, _PORT, _TTL, _PORT_TEXT, _NAME, _SYSTEM_TEXT, _CAPABILITIES, _MANAGEMENT = range(1, 9)
_ORGANIZATION = 127
_DOT1, _DOT3, _MED = b"\x00\x80\xc2", b"\x00\x12\x0f", b"\x00\x12\xbb"
_TEXTS = {_PORT_TEXT: "port_description", _NAME: "system_name", _SYSTEM_TEXT: "system_description"}
MED_INVENTORY = {
    5: "hardware",
    6: "firmware",
    7: "software",
    8: "serial",
    9: "manufacturer",
    10: "model",
    11: "asset",
}


def parse_frame(frame: bytes) -> Lldp | None:
    """The neighbour that an Ethernet frame announces, `key` empty; None for what is no LLDP frame.

    The first of a TLV that may come once counts; one too short for what it should hold is left out.
    """
    if lldp.parse_head(frame) is None:
        return None
    found = Lldp(key="", source="frames")
    for kind, value in lldp.tlvs(frame):
        _take(found, kind, value)
    return found


def _take(found: Lldp, kind: int, value: bytes) -> None:
    if kind == _CHASSIS and not found.chassis_subtype:
        found.chassis_subtype, found.chassis_id = identity(CHASSIS, value[0], value[1:])
    elif kind == _PORT and not found.port_subtype:
        found.port_subtype, found.port_id = identity(PORT, value[0], value[1:])
    elif kind == _TTL and found.ttl_s is None:
        found.ttl_s = int.from_bytes(value[:2], "big")
    elif kind in _TEXTS and not getattr(found, _TEXTS[kind]):
        setattr(found, _TEXTS[kind], text(value))
    elif kind == _CAPABILITIES and len(value) >= 4:
        found.capabilities = capabilities(int.from_bytes(value[2:4], "big"))
    elif kind == _MANAGEMENT:
        _management(found, value)
    elif kind == _ORGANIZATION and len(value) > 4:
        _organization(found, (value[:3], value[3]), value[4:])


def _management(found: Lldp, value: bytes) -> None:
    """Length (of what follows it: family and address), family, address, and an interface number that is not kept."""
    size = value[0] if value else 0
    if 2 <= size < len(value) and len(found.management) < MOST_LISTED:
        spelled = address(value[1], value[2 : 1 + size])
        if spelled and spelled not in found.management:
            found.management = [*found.management, spelled]


def _organization(found: Lldp, which: tuple[bytes, int], value: bytes) -> None:
    if which == (_DOT1, 1):
        found.pvid = _vlan(value)
    elif which == (_DOT1, 3):
        _vlan_name(found, value)
    elif which == (_DOT1, 9) and len(value) >= 21:
        _ets(found, value)
    elif which == (_DOT1, 11) and len(value) >= 2:
        found.pfc_willing = bool(value[0] & 0x80)
        found.pfc = [priority for priority in range(8) if value[1] >> priority & 1]
    elif which in ((_DOT1, 7), (_DOT3, 3)) and len(value) >= 5:
        found.lag = bool(value[0] & 2)
        found.lag_port = int.from_bytes(value[1:5], "big") if found.lag else None
    elif which == (_DOT3, 1) and len(value) >= 5:
        found.autoneg = bool(value[0] & 2)
        mau = int.from_bytes(value[3:5], "big")
        found.mau = MAUS.get(mau, str(mau) if mau else "")
    elif which == (_DOT3, 2) and len(value) >= 3:
        found.power = power(value)
    elif which == (_DOT3, 4) and len(value) >= 2:
        found.max_frame_bytes = int.from_bytes(value[:2], "big") or None
    elif which[0] == _MED and which[1] in MED_INVENTORY and (said := text(value)):
        found.med = {**found.med, MED_INVENTORY[which[1]]: said}


def _ets(found: Lldp, value: bytes) -> None:
    """802.1Qaz ETS configuration: a byte of flags, four of priorities, eight of shares, eight of algorithms."""
    found.ets_prio_tc = [nibble for byte in value[1:5] for nibble in (byte >> 4, byte & 15)]
    found.ets_bandwidth = list(value[5:13])
    found.ets_tsa = [TSA.get(number, str(number)) for number in value[13:21]]


def _vlan(value: bytes) -> int | None:
    """A VLAN's id; None for 0, which says that there is none, and for what cannot be one."""
    number = int.from_bytes(value[:2], "big") if len(value) >= 2 else 0
    return number if 0 < number < 4095 else None


def _vlan_name(found: Lldp, value: bytes) -> None:
    number = _vlan(value)
    if number is not None and len(value) >= 3 and len(found.vlans) < MOST_LISTED:
        found.vlans = {**found.vlans, number: text(value[3 : 3 + value[2]])}


def text(value: bytes) -> str:
    """A text up to its first NUL: some pad fields of a fixed size with whatever was in memory."""
    return clean(value.partition(b"\0")[0])


def power(value: bytes) -> str:
    """802.3 power via MDI: `PSE class 4`, `PD class 0`; "" where the port has no power."""
    if not value[0] & 0b110:  # neither supported nor enabled
        return ""
    return f"{'PSE' if value[0] & 1 else 'PD'} class {max(value[2] - 1, 0)}"
