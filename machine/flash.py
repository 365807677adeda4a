"""NIC firmware: staged, flashed by devlink or by ethtool's ioctl, and which version the device has then.

A request's item is the device as devlink names it, with the part behind a "#" when it is one of several
(`pci/0000:3b:00.0#fw.mgmt`); its `ifname` is for drivers without devlink. Values are `version`, and `file` and
`sha256`, which say how to come to it.
"""

import contextlib
import os
import socket
import struct
from collections.abc import Generator
from pathlib import Path

from machine import (
    Machine,
    MachineError,
    NotPresentError,
    UnsupportedError,
    VanishedError,
    devlink,
    failure,
    netlink,
    nla,
)
from machine import ethtool_ioctl as ioctl
from machine.vfinfo import folder
from wire.policy import Request, Values

LOADED = Path("/lib/firmware")  # the kernel loads firmware from below it alone
STAGE = "rackhand"
MOST_BYTES = 256 << 20
FLASH_UPDATE, FLASH_UPDATE_STATUS = 58, 60
_FILE_NAME, _COMPONENT, _STATUS = 122, 123, 124
_BUS, _DEVICE = 1, 2
ETHTOOL_FLASHDEV = 0x33
_FLASHDEV = struct.Struct("=II128s")
_ALL_REGIONS = 0
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1


def read(machine: Machine, op: Request) -> Values:
    """The version that the next reset runs where the device tells, else the one that runs. Raises MachineError."""
    return {"version": version(machine, op), "file": op.after["file"], "sha256": op.after["sha256"]}


def version(machine: Machine, op: Request) -> str:
    """Of the part that `op.item` names; of the whole by ethtool where devlink knows none. Raises MachineError."""
    device, _, part = op.item.partition("#")
    try:
        machine.names(folder(device))
    except NotPresentError:
        raise VanishedError(f"{device} is gone") from None
    for info in read_infos(machine):
        if f"{info.bus}/{info.device}" == device and part:
            return info.stored.get(part) or info.running.get(part, "")
    return ioctl.read_drvinfo(machine, op.ifname).firmware.strip()


def read_infos(machine: Machine) -> list[devlink.Info]:
    """Every device with devlink, none where the kernel has none. Raises MachineError."""
    try:
        return devlink.read_infos(machine)
    except NotPresentError:
        return []


def write(machine: Machine, op: Request) -> None:
    """Flash `op.after`'s file when its SHA-256 is the one asked for; minutes may pass. Raises MachineError."""
    device, _, part = op.item.partition("#")
    with staged(str(op.after["file"]), str(op.after["sha256"])) as name:
        try:
            by_devlink(machine, device, part, name)
        except UnsupportedError:
            if part:
                raise
            request = _FLASHDEV.pack(ETHTOOL_FLASHDEV, _ALL_REGIONS, name.encode())
            machine.ethtool_ioctl(op.ifname, request, _FLASHDEV.size)


@contextlib.contextmanager
def staged(path: str, sha256: str) -> Generator[str, None, None]:
    """The name below /lib/firmware of a copy of the file, made of the very bytes that were checked."""
    import hashlib  # noqa: PLC0415 - OpenSSL comes with it

    try:
        with Path(path).open("rb") as source:
            image = source.read(MOST_BYTES + 1)
    except OSError as error:
        raise failure(error.errno or 0, path) from None
    found = hashlib.sha256(image).hexdigest()
    if len(image) > MOST_BYTES or found != sha256.lower():
        raise MachineError(f"{path}: its SHA-256 is {found}, not the policy's: nothing was flashed")
    copy = LOADED / STAGE / f"{found[:32]}.bin"
    try:
        copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as target:
            target.write(image)
        yield f"{STAGE}/{copy.name}"
    except OSError as error:
        raise failure(error.errno or 0, str(copy)) from None
    finally:
        copy.unlink(missing_ok=True)


def by_devlink(machine: Machine, device: str, part: str, name: str) -> None:
    """One DEVLINK_CMD_FLASH_UPDATE, which returns when it is done; its last status is in the error. MachineError."""
    bus, _, place = device.partition("/")
    request = nla.text(_BUS, bus) + nla.text(_DEVICE, place) + nla.text(_FILE_NAME, name)
    request += nla.text(_COMPONENT, part) if part else b""
    with contextlib.closing(netlink.Channel(netlink.GENERIC)) as channel:
        group = netlink.resolve_family(channel, devlink.FAMILY).groups.get("config", 0)
    with contextlib.closing(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, netlink.GENERIC)) as heard:
        heard.bind((0, 0))
        heard.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        try:
            machine.genl(devlink.FAMILY, FLASH_UPDATE, request)
        except UnsupportedError:
            raise
        except MachineError as error:
            said = "; ".join(statuses(heard, place)[-2:])
            told = type(error)(f"{error}{f' (the device said: {said})' if said else ''}")
            told.code = error.code
            raise told from None


def statuses(heard: socket.socket, place: str) -> list[str]:
    """What was said of a device's update so far, each message once."""
    said: dict[str, None] = {}
    with contextlib.suppress(BlockingIOError):
        while datagram := heard.recv(1 << 16, socket.MSG_DONTWAIT):
            for message in netlink.messages(datagram):
                found = nla.table(message.payload, 4) if message.payload[:1] == bytes([FLASH_UPDATE_STATUS]) else {}
                if nla.string(found.get(_DEVICE, b"")) == place and (text := nla.string(found.get(_STATUS, b""))):
                    said.setdefault(text)
    return list(said)
