"""LLDP-MIB (IEEE 802.1AB): the neighbours a switch heard on its ports."""

from collections.abc import Iterator, Mapping

from pollers.meaning import Columns, Index, Value, number
from wire.facts import Lldp
from wire.lldp import CHASSIS, PORT, address, capabilities, identity
from wire.text import clean

LLDP = "1.0.8802.1.1.2.1"
LOCAL_CHASSIS_SUBTYPE, LOCAL_CHASSIS, LOCAL_NAME = (f"{LLDP}.3.{number}" for number in (1, 2, 3))
LOCAL_PORT_SUBTYPE, LOCAL_PORT, LOCAL_DESCRIPTION = (f"{LLDP}.3.7.1.{number}" for number in (2, 3, 4))
REMOTE = f"{LLDP}.4.1.1"
CHASSIS_SUBTYPE, CHASSIS_ID, PORT_SUBTYPE, PORT_ID, PORT_DESCRIPTION = (f"{REMOTE}.{number}" for number in range(4, 9))
SYSTEM_NAME, SYSTEM_DESCRIPTION, _SUPPORTED, CAPABILITIES = (f"{REMOTE}.{number}" for number in range(9, 13))
MANAGEMENT = f"{LLDP}.4.2.1.3"  # lldpRemManAddrIfSubtype: the address stands in the index
GATE = CHASSIS_ID
COLUMNS = [
    *(CHASSIS_ID, CHASSIS_SUBTYPE, PORT_SUBTYPE, PORT_ID, PORT_DESCRIPTION, SYSTEM_NAME, SYSTEM_DESCRIPTION),
    *(CAPABILITIES, MANAGEMENT, LOCAL_CHASSIS_SUBTYPE, LOCAL_CHASSIS, LOCAL_NAME),
    *(LOCAL_PORT_SUBTYPE, LOCAL_PORT, LOCAL_DESCRIPTION),
]
IF_NAME, IF_DESCRIPTION, IF_ALIAS = "1.3.6.1.2.1.31.1.1.1.1", "1.3.6.1.2.1.2.2.1.2", "1.3.6.1.2.1.31.1.1.1.18"
IF_MAC = "1.3.6.1.2.1.2.2.1.6"
MAC_BYTES = 6
MOST_MANAGEMENT = 64


def read(columns: Columns, interfaces: Columns) -> list[Lldp]:
    """One fact per neighbour, by port; `interfaces` are IF-MIB's columns, by which ports are named."""
    rows: dict[int, list[Index]] = {}
    for index in sorted(columns.get(CHASSIS_ID, {}), key=lambda index: index[1:]):
        if len(index) == 3:  # lldpRemTimeMark, lldpRemLocalPortNum, lldpRemIndex
            rows.setdefault(index[1], []).append(index)
    found: list[Lldp] = []
    for port, indices in rows.items():
        name = port_name(port, columns, interfaces)
        for count, index in enumerate(indices, 1):
            key = name if count == 1 else f"{name}#{count}"
            found.append(_neighbour(columns, interfaces, index, key, name))
    return found


def port_name(port: int, columns: Columns, interfaces: Columns) -> str:
    """What IF-MIB calls an LLDP port: its number is an ifIndex on some switches only, so its own words count first."""
    subtype = number(columns.get(LOCAL_PORT_SUBTYPE, {}).get((port,)))
    own = columns.get(LOCAL_PORT, {}).get((port,))
    described = _line(columns.get(LOCAL_DESCRIPTION, {}).get((port,)))
    text = _line(own)
    if subtype == 3 or (isinstance(own, bytes) and len(own) == MAC_BYTES and not own.isascii()):
        indices = [index for index, mac in interfaces.get(IF_MAC, {}).items() if mac == own]
        if len(indices) == 1:
            return _if_name(indices[0], interfaces)
    for said in filter(None, (text, described)):
        for oid in (IF_NAME, IF_DESCRIPTION, IF_ALIAS):
            indices = [index for index, name in interfaces.get(oid, {}).items() if _line(name) == said]
            if len(indices) == 1:
                return _if_name(indices[0], interfaces)
    if text.isdecimal() and len(text) < 10 and (named := _if_name((int(text),), interfaces)):
        return named
    return _if_name((port,), interfaces) or (text if text.isprintable() else "") or described or f"port {port}"


def _if_name(index: Index, interfaces: Columns) -> str:
    return _line(interfaces.get(IF_NAME, {}).get(index)) or _line(interfaces.get(IF_DESCRIPTION, {}).get(index))


def _neighbour(columns: Columns, interfaces: Columns, index: Index, key: str, port: str) -> Lldp:
    chassis = _identity(CHASSIS, columns, CHASSIS_SUBTYPE, CHASSIS_ID, index)
    remote = _identity(PORT, columns, PORT_SUBTYPE, PORT_ID, index)
    own_chassis = _identity(CHASSIS, columns, LOCAL_CHASSIS_SUBTYPE, LOCAL_CHASSIS, (0,))
    own_port = _identity(PORT, columns, LOCAL_PORT_SUBTYPE, LOCAL_PORT, index[1:2])
    macs = [mac for at, mac in interfaces.get(IF_MAC, {}).items() if _if_name(at, interfaces) == port]

    def line(oid: str, at: Index = index) -> str:
        return _line(columns.get(oid, {}).get(at))

    return Lldp(
        key=clean(key),
        port_key=port if key != port else "",
        port=port,
        source="lldp-mib",
        local_chassis_subtype=own_chassis[0],
        local_chassis_id=own_chassis[1],
        local_system_name=line(LOCAL_NAME, (0,)),
        local_port_subtype=own_port[0],
        local_port_id=own_port[1],
        local_port_description=line(LOCAL_DESCRIPTION, index[1:2]),
        local_mac=_mac(macs[0]) if macs else "",
        chassis_subtype=chassis[0],
        chassis_id=chassis[1],
        port_subtype=remote[0],
        port_id=remote[1],
        port_description=line(PORT_DESCRIPTION),
        system_name=line(SYSTEM_NAME),
        system_description=line(SYSTEM_DESCRIPTION),
        capabilities=_capabilities(columns.get(CAPABILITIES, {}).get(index)),
        management=list(_management(columns.get(MANAGEMENT, {}), index)),
    )


def _identity(
    words: Mapping[int, str], columns: Columns, subtype_oid: str, id_oid: str, index: Index
) -> tuple[str, str]:
    """(subtype, identifier); a local one may come without its subtype."""
    value = columns.get(id_oid, {}).get(index)
    if value is None:
        return "", ""
    data = value if isinstance(value, bytes) else str(value).encode()
    subtype = number(columns.get(subtype_oid, {}).get(index))
    word, text = identity(words, int(subtype or 0), data[:255])
    return word if subtype else "", text


def _capabilities(value: Value) -> list[str]:
    """SNMP BITS, the first bit first; more bytes than there are words for are no such thing."""
    if not isinstance(value, bytes) or not 1 <= len(value) <= 2:
        return []
    bits = f"{int.from_bytes(value):0{8 * len(value)}b}"
    return capabilities(sum(1 << at for at, bit in enumerate(bits) if bit == "1"))


def _management(rows: Mapping[Index, Value], index: Index) -> Iterator[str]:
    """Addresses of this neighbour: time mark, port, neighbour, family, length, bytes."""
    found = 0
    for row in sorted(row for row in rows if row[:3] == index and len(row) > 5):
        family, data = row[3], row[5:]
        if row[4] != len(data) or max(data) > 255:
            continue
        text = address(family, bytes(data)) or (_mac(bytes(data)) if len(data) == MAC_BYTES else "")
        if text and found < MOST_MANAGEMENT:
            found += 1
            yield text


def _mac(value: Value) -> str:
    return value.hex(":") if isinstance(value, bytes) and len(value) == MAC_BYTES else ""


def _line(value: Value) -> str:
    return clean(value) if isinstance(value, bytes | str) else "" if value is None else str(value)
