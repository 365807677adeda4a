"""The kernel's side of a team, by its netlink family: mode, and which ports are up; LACP is teamd's own affair."""

from typing import NamedTuple

from machine import Machine, nla

FAMILY = "team"
OPTIONS_GET, PORT_LIST_GET = 2, 3
_TEAM_IFINDEX, _LIST_OPTION, _LIST_PORT = 1, 2, 3
_NAME, _DATA, _OPTION_PORT = 1, 4, 6
_IFINDEX, _LINKUP, _REMOVED = 1, 3, 6
_MODE, _ACTIVE = "mode", "activeport"


class Team(NamedTuple):
    """One team: its mode, the ifindex of the active port (0 for none), and whether each port is up, by ifindex."""

    mode: str
    active: int
    ports: dict[int, bool]


def read(machine: Machine, ifindex: int) -> Team:
    """Raises MachineError; NotPresentError where the kernel has no teams."""
    request = nla.u32(_TEAM_IFINDEX, ifindex)
    options = [parse_options(reply.payload) for reply in machine.genl(FAMILY, OPTIONS_GET, request)]
    ports = [parse_ports(reply.payload) for reply in machine.genl(FAMILY, PORT_LIST_GET, request)]
    told = {name: value for part in options for name, value in part.items()}
    return Team(
        nla.string(told.get(_MODE, b"")),
        nla.number(told.get(_ACTIVE, b"")),
        {port: up for part in ports for port, up in part.items()},
    )


def parse_options(attributes: bytes) -> dict[str, bytes]:
    """The team's own options by name, not those of its ports; raises MachineError when it is cut."""
    found = (nla.table(item) for _, item in nla.items(nla.table(attributes).get(_LIST_OPTION, b"")))
    return {nla.string(one.get(_NAME, b"")): one.get(_DATA, b"") for one in found if _OPTION_PORT not in one}


def parse_ports(attributes: bytes) -> dict[int, bool]:
    """ifindex -> up; raises MachineError when it is cut."""
    found = (nla.table(item) for _, item in nla.items(nla.table(attributes).get(_LIST_PORT, b"")))
    return {nla.number(one.get(_IFINDEX, b"")): _LINKUP in one for one in found if _REMOVED not in one}
