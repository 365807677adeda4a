"""What devices say of their firmware and boards through devlink (linux/devlink.h, DEVLINK_CMD_INFO_GET)."""

from collections.abc import Callable
from typing import NamedTuple

from machine import Machine, nla

FAMILY = "devlink"
INFO_GET = 51
_BUS, _DEVICE, _DRIVER, _SERIAL = 1, 2, 98, 99
_FIXED, _RUNNING, _STORED, _VERSION_NAME, _VERSION = 100, 101, 102, 103, 104
_BOARD_SERIAL = 146
_SERIALS = (_SERIAL, _BOARD_SERIAL)


class Info(NamedTuple):
    """One device: its bus and name there, its driver, and versions by devlink's names (`fw.mgmt`, `board.id`, ...)."""

    bus: str
    device: str
    driver: str
    fixed: dict[str, str]
    running: dict[str, str]
    stored: dict[str, str]


def read_infos(machine: Machine) -> list[Info]:
    """Every device with devlink; raises NotPresentError where the kernel has no devlink."""
    return [parse_info(reply.payload) for reply in machine.genl(FAMILY, INFO_GET, b"", dump=True)]


def parse_info(payload: bytes) -> Info:
    """One answer to DEVLINK_CMD_INFO_GET, strings as the device's firmware wrote them. Raises MachineError."""
    texts = {_BUS: "", _DEVICE: "", _DRIVER: ""}
    versions: dict[int, dict[str, str]] = {_FIXED: {}, _RUNNING: {}, _STORED: {}}
    for kind, value in nla.items(payload):
        if kind in texts:
            texts[kind] = nla.string(value)
        elif kind in versions:
            found = nla.table(value)
            versions[kind][nla.string(found.get(_VERSION_NAME, b""))] = nla.string(found.get(_VERSION, b""))
    return Info(texts[_BUS], texts[_DEVICE], texts[_DRIVER], versions[_FIXED], versions[_RUNNING], versions[_STORED])


def public(payload: bytes, stand_in: Callable[[str], str]) -> bytes:
    """The same answer with other serial numbers; `stand_in` must keep a text's length. Raises MachineError."""
    return b"".join(
        nla.attr(kind, stand_in(nla.string(value)).encode() + b"\0" if kind in _SERIALS else value)
        for kind, value in nla.items(payload)
    )
