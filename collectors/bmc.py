"""The BMC as its own server sees it: who it is, where it is on the network, how full its event log is."""

import socket
import struct
import time
from collections.abc import Iterator

from collectors import sysfs
from collectors.about import About, Cost
from machine import DeniedError, Machine, MachineError, NotPresentError
from wire.facts import Bmc
from wire.facts.bmc import MANUFACTURERS
from wire.report import Sample

NAME = "bmc"
EVERY_S = 600.0
DEADLINE_S = 45.0

_CHASSIS, _APP, _STORAGE, _TRANSPORT, _DCMI = 0x00, 0x06, 0x0A, 0x0C, 0x2C
_STATUS, _DEVICE_ID, _CHANNEL_INFO, _SYSTEM_GUID, _SEL_INFO, _LAN, _POWER = 0x01, 0x01, 0x42, 0x37, 0x40, 0x02, 0x02
_LAN_MEDIUM = 4  # 802.3, IPMI 2.0 table 6-3
_CHANNELS = range(1, 8)  # the standard leaves it to the maker which of them is the LAN
SOURCES = {1: "static", 2: "dhcp", 3: "bios", 4: "other"}  # LAN parameter 4
RESTORE = {0: "always-off", 1: "previous", 2: "always-on"}  # Get Chassis Status, bits 5-6
FAULTS = {1: "power overload", 2: "interlock", 3: "power", 4: "power control"}  # its byte 1
MORE_FAULTS = {2: "drive", 3: "fan"}  # its byte 3
_UNSET = 0x20000000  # a BMC's clock below counts from its start
_NEVER = (0, 0xFFFFFFFF)

ABOUT = About(
    what="the BMC: version, maker, GUID, LAN address, power and chassis state, event log",
    source="`/dev/ipmi0` (system interface)",
    cost=Cost.PERTURBING,
    privileges="root",
    needs=("/dev/ipmi0",),
    metrics={"bmc.sel_entries": 0, "bmc.sel_free_bytes": 0, "bmc.system_watts": 5.0},
)


def collect(machine: Machine) -> Iterator[Bmc | Sample]:
    """One `Bmc`, and samples of its event log; raises NotPresentError without an IPMI device, BusyError when the BMC
    does not answer."""
    bmc = Bmc()
    parse_device_id(_ask(machine, _APP, _DEVICE_ID, must=True), bmc)
    parse_guid(_ask(machine, _APP, _SYSTEM_GUID), bmc)
    bmc.system_uuid = sysfs.text(machine, "/sys/class/dmi/id/product_uuid").lower()
    parse_chassis(_ask(machine, _CHASSIS, _STATUS), bmc)
    read_lan(machine, bmc)
    log = _ask(machine, _STORAGE, _SEL_INFO)
    parse_sel_info(log, bmc)
    yield bmc
    yield from parse_sel_samples(log)
    watts = parse_watts(_ask(machine, _DCMI, _POWER, b"\xdc\1\0\0"))
    if watts is not None:
        yield Sample("bmc.system_watts", bmc.key, watts)


def _ask(machine: Machine, netfn: int, command: int, data: bytes = b"", *, must: bool = False) -> bytes:
    """The data of a response, none when the BMC does not do that; raises MachineError when it is gone."""
    try:
        reply = machine.ipmi(netfn, command, data)
    except (NotPresentError, DeniedError):
        if must:
            raise
        return b""
    if must and reply[:1] != b"\0":
        raise MachineError(f"the BMC answers Get Device ID with {reply[:1].hex() or 'nothing'}")
    return reply[1:] if reply[:1] == b"\0" else b""


def parse_device_id(data: bytes, bmc: Bmc) -> None:
    """IPMI 2.0 chapter 20.1; raises MachineError when it is too short."""
    if len(data) < 11:
        raise MachineError(f"the BMC's Get Device ID has {len(data)} bytes, not 11")
    bmc.version = f"{data[2] & 0x7F}.{data[3]:02x}"
    bmc.ipmi_version = f"{data[4] & 15}.{data[4] >> 4}"
    bmc.manufacturer_id = int.from_bytes(data[6:9], "little") & 0xFFFFF
    bmc.manufacturer = MANUFACTURERS.get(bmc.manufacturer_id, "")
    bmc.product_id = int.from_bytes(data[9:11], "little")


def parse_guid(data: bytes, bmc: Bmc) -> None:
    """Chapter 22.14; all zeros and all ones are none."""
    if len(data) >= 16 and data[:16].strip(b"\0") and data[:16].strip(b"\xff"):
        bmc.guid = data[:16].hex()


def parse_chassis(data: bytes, bmc: Bmc) -> None:
    """Chapter 28.2: power, faults, intrusion, identify."""
    if len(data) < 3:
        return
    power, _, other = data[:3]
    bmc.power = "on" if power & 1 else "off"
    bmc.restore = RESTORE.get(power >> 5 & 3, "")
    bmc.faults = [word for bit, word in FAULTS.items() if power >> bit & 1]
    bmc.faults += [word for bit, word in MORE_FAULTS.items() if other >> bit & 1]
    bmc.intrusion = bool(other & 1)
    if other & 0x40:
        bmc.identify = ("off", "temporary", "on", "")[other >> 4 & 3]


def read_lan(machine: Machine, bmc: Bmc) -> None:
    """Address, mask, gateway, MAC and VLAN of the first channel that is a LAN."""
    for channel in _CHANNELS:
        info = _ask(machine, _APP, _CHANNEL_INFO, bytes([channel]))
        if len(info) >= 2 and info[1] & 0x7F == _LAN_MEDIUM:
            said = {number: _ask(machine, _TRANSPORT, _LAN, bytes([channel, number, 0, 0])) for number in _PARAMETERS}
            bmc.channel = channel
            parse_lan({number: data[1:] for number, data in said.items()}, bmc)
            bmc.addresses6 = list(read_addresses6(machine, channel))
            return


_PARAMETERS = (3, 4, 5, 6, 12, 20)
_ADDRESSES6 = (56, 59)  # static, dynamic
_MOST_ADDRESSES6 = 4  # of each kind


def read_addresses6(machine: Machine, channel: int) -> Iterator[str]:
    """The active IPv6 addresses, none of a BMC that knows IPv4 alone."""
    for number in _ADDRESSES6:
        for selector in range(_MOST_ADDRESSES6):
            data = _ask(machine, _TRANSPORT, _LAN, bytes([channel, number, selector, 0]))
            address = parse_address6(data[1:])
            if not data:
                break
            if address:
                yield address


def parse_address6(data: bytes) -> str:
    """Parameters 56 and 59: selector, source, address, prefix length, status; "" when it is not active or none."""
    if len(data) < 20 or data[19] != 0 or not any(data[2:18]):
        return ""
    return f"{socket.inet_ntop(socket.AF_INET6, data[2:18])}/{data[18]}"


def parse_lan(said: dict[int, bytes], bmc: Bmc) -> None:
    """LAN configuration parameters (table 23-4) by number, without their revision; what is all zeros is not set."""
    bmc.address = _ipv4(said.get(3, b""))
    bmc.address_source = SOURCES.get((said.get(4) or b"\0")[0] & 15, "")
    mac = said.get(5, b"")[:6]
    bmc.mac = mac.hex(":") if len(mac) == 6 and any(mac) else ""
    bmc.netmask = _ipv4(said.get(6, b"")) if bmc.address else ""
    bmc.gateway = _ipv4(said.get(12, b""))
    vlan = said.get(20, b"")[:2]
    bmc.vlan_id = int.from_bytes(vlan, "little") & 0xFFF if len(vlan) == 2 and vlan[1] & 0x80 else None


def _ipv4(data: bytes) -> str:
    return ".".join(map(str, data[:4])) if len(data) >= 4 and any(data[:4]) else ""


def parse_sel_info(data: bytes, bmc: Bmc) -> None:
    """Chapter 31.2: when an entry was added last, and whether any was dropped."""
    if len(data) < 14:
        return
    added = int.from_bytes(data[5:9], "little")
    if added not in _NEVER and added >= _UNSET:
        bmc.sel_added = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(added))
    bmc.sel_overflow = bool(data[13] & 0x80)


def parse_sel_samples(data: bytes) -> Iterator[Sample]:
    """Entries and free bytes; a full log and one that does not say are told apart by the entries."""
    if len(data) < 14:
        return
    entries, free = struct.unpack_from("<HH", data, 1)
    yield Sample("bmc.sel_entries", "bmc", entries)
    if free != 0xFFFF:  # 64 kB or more, or unspecified
        yield Sample("bmc.sel_free_bytes", "bmc", free)


def parse_watts(data: bytes) -> int | None:
    """DCMI 1.5 chapter 6.6.1: the power that the system takes now; None when it is not measured."""
    if len(data) < 18 or data[0] != 0xDC or not data[17] & 0x40:
        return None
    watts = int.from_bytes(data[1:3], "little")
    return watts or None
