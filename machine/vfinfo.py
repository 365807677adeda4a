"""What a physical function's driver keeps of one virtual function, set through rtnetlink (IFLA_VFINFO_LIST).

A request's item is "<device>#<index>", the device as in devlink: `pci/0000:3b:00.0#3`. The interface is looked up at
each request: it may have been made anew with another index.
"""

import re
import struct
from collections.abc import Callable

from machine import Machine, MachineError, NotPresentError, UnsupportedError, VanishedError, linkinfo, nla
from machine.linkinfo import Vf
from wire.policy import Request, Value, Values
from wire.vf import TOGETHER, Settings

SETLINK = 19
_LIST, _ONE = 22, 1  # IFLA_VFINFO_LIST, IFLA_VF_INFO
_MAC, _SPOOFCHK, _LINK_STATE, _RATE, _TRUST, _VLAN_LIST, _VLAN_INFO = 1, 4, 5, 6, 9, 12, 1
_IFINFO = struct.Struct("=BxHiII")
_STATES = {"auto": 0, "enable": 1, "disable": 2}
_PROTOCOLS = {"": 0x8100, "802.1Q": 0x8100, "802.1ad": 0x88A8}
_REPRESENTS = re.compile(r"(?:c\d+)?pf\d+[vs]f\d+")  # phys_port_name of what stands for a function


def folder(device: str) -> str:
    """The directory of "<bus>/<name>" in sysfs."""
    bus, _, name = device.partition("/")
    return f"/sys/bus/{bus}/devices/{name}"


def interface(machine: Machine, device: str) -> int:
    """ifindex of the physical function's own interface; raises VanishedError when it has none."""
    try:
        names = machine.names(f"{folder(device)}/net")
    except NotPresentError:
        names = []
    for name in names:
        try:
            port = machine.read(f"{folder(device)}/net/{name}/phys_port_name")
        except MachineError:
            port = ""
        if not _REPRESENTS.fullmatch(port):
            return int(machine.read(f"{folder(device)}/net/{name}/ifindex"))
    raise VanishedError(f"{device} has no interface here")


def read_all(machine: Machine, device: str) -> dict[int, Settings]:
    """The settings of every function that the driver tells, by index; None values are left out. Raises MachineError."""
    return {vf.number: settings(vf) for vf in linkinfo.read_vfs(machine, interface(machine, device))}


def settings(vf: Vf) -> Settings:
    """Those of one function by the names of VirtFunction's fields, without what the driver does not say."""
    found: dict[str, Value | None] = {name: getattr(vf, name) for names in TOGETHER for name in names}
    return {name: value for name, value in found.items() if value is not None and (name, value) != ("link_state", "")}


def read(machine: Machine, op: Request) -> Values:
    """The settings of the function `op.item`; raises VanishedError when there is none of that index."""
    device, _, number = op.item.rpartition("#")
    found = read_all(machine, device).get(int(number))
    if found is None:
        raise VanishedError(f"{device} has no virtual function {number}")
    return dict(found)


def write(machine: Machine, op: Request) -> None:
    """Bring the function's settings to `op.after`, which are of one request of the kernel's. Raises MachineError."""
    device, _, number = op.item.rpartition("#")
    apply(machine, device, int(number), dict(op.after))


def apply(machine: Machine, device: str, number: int, wanted: Settings) -> None:
    """Set what is in `wanted` of one function, in the order of `TOGETHER`. Raises MachineError."""
    ifindex = interface(machine, device)
    for names in TOGETHER:
        if set(names) & wanted.keys():
            message = nla.nest(_LIST, nla.nest(_ONE, encode(number, names, wanted)))
            _set(machine, ifindex, message, f"virtual function {number} of {device}: {names[0]}")


def _set(machine: Machine, ifindex: int, message: bytes, what: str) -> None:
    try:
        machine.rtnl(SETLINK, _IFINFO.pack(0, 0, ifindex, 0, 0) + message)
    except MachineError as error:
        told = type(error)(f"{what}: {str(error).partition(': ')[2] or error}")
        told.code = error.code
        raise told from None


def encode(number: int, names: tuple[str, ...], wanted: Settings) -> bytes:
    """The attribute that carries these settings (linux/if_link.h); what is not wanted of them is 0."""
    return _ENCODERS[names[0]](number, wanted)


def _mac(number: int, wanted: Settings) -> bytes:
    mac = bytes.fromhex(str(wanted["mac"]).replace(":", ""))
    return nla.attr(_MAC, struct.pack("=I32s", number, mac))


def _vlan(number: int, wanted: Settings) -> bytes:
    protocol = _PROTOCOLS.get(str(wanted.get("vlan_protocol", "")))
    if protocol is None:
        raise UnsupportedError(f"virtual function {number}: no VLAN protocol {wanted['vlan_protocol']!r}")
    words = struct.pack("=III", number, int(wanted.get("vlan_id", 0)), int(wanted.get("vlan_qos", 0)))
    return nla.nest(_VLAN_LIST, nla.attr(_VLAN_INFO, words + protocol.to_bytes(2, "big") + bytes(2)))


def _rate(number: int, wanted: Settings) -> bytes:
    low, high = int(wanted.get("min_tx_mbps", 0)), int(wanted.get("max_tx_mbps", 0))
    return nla.attr(_RATE, struct.pack("=III", number, low, high))


def _state(number: int, wanted: Settings) -> bytes:
    return nla.attr(_LINK_STATE, struct.pack("=II", number, _STATES[str(wanted["link_state"])]))


def _switch(kind: int, name: str) -> Callable[[int, Settings], bytes]:
    return lambda number, wanted: nla.attr(kind, struct.pack("=II", number, bool(wanted[name])))


_ENCODERS: dict[str, Callable[[int, Settings], bytes]] = {
    "mac": _mac,
    "vlan_id": _vlan,
    "spoofchk": _switch(_SPOOFCHK, "spoofchk"),
    "trust": _switch(_TRUST, "trust"),
    "min_tx_mbps": _rate,
    "link_state": _state,
}
