"""Whether a NIC's embedded switch works by rules of its own or by the host's (devlink)."""

from machine import Machine, nla

FAMILY = "devlink"
ESWITCH_GET = 29
_BUS, _DEVICE, _MODE = 1, 2, 25
MODES = {0: "legacy", 1: "switchdev"}


def read_mode(machine: Machine, address: str) -> str:
    """Of the NIC with this PCI address; raises UnsupportedError where it has no such switch, DeniedError."""
    request = nla.text(_BUS, "pci") + nla.text(_DEVICE, address)
    for reply in machine.genl(FAMILY, ESWITCH_GET, request):
        if mode := parse_mode(reply.payload):
            return mode
    return ""


def parse_mode(attributes: bytes) -> str:
    """What DEVLINK_CMD_ESWITCH_GET answers; "" when it does not say."""
    value = nla.table(attributes).get(_MODE, b"")
    return MODES.get(nla.number(value), str(nla.number(value))) if value else ""
