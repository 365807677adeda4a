"""Whether a NIC's embedded switch works by rules of its own or by the host's (devlink)."""

import struct

from msgspec import structs

from machine import Machine, NotPresentError, UnsupportedError, VanishedError, Writer, binding, ledger, nla, sriov
from wire.policy import Request, Values

FAMILY = "devlink"
ESWITCH_GET, ESWITCH_SET = 29, 30
_BUS, _DEVICE, _MODE = 1, 2, 25
MODES = {0: "legacy", 1: "switchdev"}
_NUMBERS = {mode: number for number, mode in MODES.items()}


def handle(device: str) -> bytes:
    """The attributes that name a device ("pci/0000:3b:00.0")."""
    bus, _, name = device.partition("/")
    return nla.text(_BUS, bus) + nla.text(_DEVICE, name)


def read_mode(machine: Machine, device: str) -> str:
    """Of the device ("pci/0000:3b:00.0"); raises UnsupportedError where it has no such switch, DeniedError."""
    for reply in machine.genl(FAMILY, ESWITCH_GET, handle(device)):
        if mode := parse_mode(reply.payload):
            return mode
    return ""


def parse_mode(attributes: bytes) -> str:
    """What DEVLINK_CMD_ESWITCH_GET answers; "" when it does not say."""
    value = nla.table(attributes).get(_MODE, b"")
    return MODES.get(nla.number(value), str(nla.number(value))) if value else ""


def read(machine: Machine, op: Request) -> Values:
    """The mode of the device `op.item`, and whether no function waits for its driver. Raises MachineError.

    `unbind` says how to get there, and is as asked.
    """
    try:
        mode = read_mode(machine, op.item)
    except UnsupportedError:
        raise
    except NotPresentError:
        raise VanishedError(f"{op.item} is gone") from None
    settled = not ledger.entry(machine, op.item).unbound
    return {"mode": mode, "settled": settled, "unbind": op.after["unbind"]}


def write(machine: Writer, op: Request) -> None:
    """Bring the mode to `op.after`; with `unbind`, while no driver has a virtual function. Raises MachineError.

    Which functions wait for their drivers is in the ledger: a switch that was interrupted is ended by its undoing.
    """
    wanted = str(op.after["mode"])
    if op.after["unbind"]:
        take(machine, op.item)
    try:
        if read_mode(machine, op.item) != wanted:
            set_mode(machine, op.item, wanted)
    finally:
        give_back(machine, op.item)


def set_mode(machine: Machine, device: str, mode: str) -> None:
    """One DEVLINK_CMD_ESWITCH_SET. Raises MachineError with the kernel's own words."""
    machine.genl(FAMILY, ESWITCH_SET, handle(device) + nla.attr(_MODE, struct.pack("=H", _NUMBERS[mode])))


def take(machine: Writer, device: str) -> None:
    """Unbind the device's virtual functions, noted first. Raises MachineError."""
    entry = ledger.entry(machine, device)
    places = sriov.addresses(machine, device).values()
    bound = {address: name for address in places if (name := binding.driver(machine, address))}
    ledger.write(machine, device, structs.replace(entry, unbound={**entry.unbound, **bound}))
    for address in bound:
        binding.unbind(machine, address)


def give_back(machine: Writer, device: str) -> None:
    """Bind the functions that wait for their drivers, and forget them. Raises MachineError."""
    entry = ledger.entry(machine, device)
    if entry.unbound:
        for address, name in entry.unbound.items():
            if address in sriov.addresses(machine, device).values():
                binding.bind(machine, address, name, binding.override(machine, address))
        ledger.write(machine, device, structs.replace(entry, unbound={}))
    sriov.settle(machine)
