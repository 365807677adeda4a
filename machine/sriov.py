"""How many virtual functions a device has: written through 0, waited for, their settings and our claim put back.

A request's item is the device as devlink names it: `pci/0000:3b:00.0`, `netdevsim/netdevsim7`. Its values are `vfs`,
`settings` (those of the functions that are to have them, as in wire.vf), `owned` (how many of them are ours) and, where
the device has it, `autoprobe`. Functions have their settings before a driver sees them.
"""

import errno
import re
import time
from collections.abc import Mapping

from msgspec import structs

from machine import (
    Machine,
    MachineError,
    NotPresentError,
    UnsupportedError,
    VanishedError,
    Writer,
    binding,
    ledger,
    vfinfo,
    vfio,
)
from machine.vfinfo import folder
from wire.policy import Request, Values
from wire.vf import TOGETHER, Settings, format_vfs, parse_vfs

LIMIT_S = 120.0  # until the functions are there
PAUSE_S = 0.1
AUTOPROBE = "sriov_drivers_autoprobe"
SETTLE_S = 15.0
_VIRTFN = re.compile(r"virtfn(\d+)")
_UDEV = "/run/udev/queue"  # exists while udev has something to do


def read(machine: Machine, op: Request) -> Values:
    """How many functions the device has, their settings and how many are ours. Raises MachineError, VanishedError.

    `settings` is `op.after`'s own text when the functions have what it says, else all that they have.
    """
    count = read_count(machine, op.item)
    wanted = str(op.after.get("settings", ""))
    now = read_settings(machine, op.item) if count and wanted else {}
    stands = has(now, parse_vfs(wanted))
    values: Values = {
        "vfs": count,
        "settings": wanted if stands else format_vfs(now),
        "owned": ledger.entry(machine, op.item).vfs,
    }
    if "autoprobe" in op.after:
        values["autoprobe"] = machine.read(f"{folder(op.item)}/{AUTOPROBE}") == "1"
    return values


def read_count(machine: Machine, device: str) -> int:
    """sriov_numvfs; raises VanishedError without the device, UnsupportedError when it has no such file."""
    try:
        return int(machine.read(f"{folder(device)}/sriov_numvfs"))
    except NotPresentError:
        pass
    try:
        machine.names(folder(device))
    except NotPresentError:
        raise VanishedError(f"{device} is gone") from None
    raise UnsupportedError(f"{device} has no virtual functions to share out")


def read_settings(machine: Machine, device: str) -> dict[int, Settings]:
    """What the device keeps of each function, and the drivers of those that are PCI functions. Raises MachineError."""
    try:
        found = vfinfo.read_all(machine, device)
    except VanishedError:
        found = {}
    for number, address in addresses(machine, device).items():
        found[number] = {**found.get(number, {}), "driver": binding.driver(machine, address)}
    return found


def has(now: Mapping[int, Settings], wanted: Mapping[int, Settings]) -> bool:
    """True when every function has all that is wanted of it."""
    return all(settings.items() <= now.get(number, {}).items() for number, settings in wanted.items())


def addresses(machine: Machine, device: str) -> dict[int, str]:
    """PCI addresses of the device's virtual functions by index; none on another bus."""
    try:
        links = [match for match in map(_VIRTFN.fullmatch, machine.names(folder(device))) if match]
        return {int(link[1]): machine.target(f"{folder(device)}/{link[0]}").rpartition("/")[2] for link in links}
    except NotPresentError:
        return {}


def write(machine: Writer, op: Request) -> None:
    """Bring count, settings, claim and autoprobe to `op.after`. Raises MachineError; then the count may be 0."""
    device, wanted = op.item, parse_vfs(str(op.after["settings"]))
    ours = structs.replace(ledger.entry(machine, device), vfs=int(op.after["owned"]))
    probed = bool(op.after.get("autoprobe", False))
    if wanted and probed:
        machine.write(f"{folder(device)}/{AUTOPROBE}", "0")
    try:
        set_count(machine, device, int(op.after["vfs"]))
        ledger.write(machine, device, ours)
        put_back(machine, device, wanted)
    finally:
        if "autoprobe" in op.after:
            machine.write(f"{folder(device)}/{AUTOPROBE}", str(int(probed)))
    if wanted and probed:
        for number, address in addresses(machine, device).items():
            if "driver" not in wanted.get(number, {}):
                binding.probe(machine, address)
        settle(machine)


def set_count(machine: Writer, device: str, count: int) -> None:
    """Write sriov_numvfs, through 0 where there are some, and wait for the functions. Raises MachineError."""
    path = f"{folder(device)}/sriov_numvfs"
    now = read_count(machine, device)
    if now == count:
        return
    for address in addresses(machine, device).values():
        vfio.check(machine, address)
    try:
        for number in [0, count] if now and count else [count]:
            machine.write(path, str(number))
    except MachineError as error:
        raise _told(error, device, count, now) from None
    await_functions(machine, device, count)


def _told(error: MachineError, device: str, count: int, now: int) -> MachineError:
    """The error in words; one that does not mean "unsupported" once the functions are gone that were there."""
    words = {errno.ERANGE: f"{count} are more than it can have", errno.ENOMEM: "no room for them on the bus"}
    why = words.get(error.code, str(error))
    if error.code == errno.ENOENT and not now:
        return UnsupportedError(f"{device}: its driver shares no functions out")
    told = MachineError(f"{device}: {count} virtual functions: {why}")
    told.code = error.code
    return told if now or error.code in words else type(error)(str(told))


def await_functions(machine: Machine, device: str, count: int) -> None:
    """Wait until that many functions are there and udev has named their interfaces. Raises MachineError."""
    until = time.monotonic() + LIMIT_S
    while (found := _appeared(machine, device)) != count:
        if time.monotonic() > until:
            raise MachineError(f"{device}: {count} virtual functions were asked for, {found} came")
        time.sleep(PAUSE_S)
    settle(machine)


def _appeared(machine: Machine, device: str) -> int:
    """The functions that are there; on a bus without virtfn links what the device says."""
    count = read_count(machine, device)
    return min(count, len(addresses(machine, device))) if device.startswith("pci/") else count


def settle(machine: Machine) -> None:
    """Wait until udev has nothing to do, at most 15 s: interfaces have their names then."""
    until = time.monotonic() + SETTLE_S
    while time.monotonic() < until:
        try:
            machine.read(_UDEV)
        except NotPresentError:
            return
        time.sleep(PAUSE_S)


def put_back(machine: Writer, device: str, wanted: Mapping[int, Settings]) -> None:
    """Give functions settings and drivers, where they do not have them. Raises MachineError."""
    now = read_settings(machine, device) if wanted else {}
    places = addresses(machine, device)
    for number, settings in wanted.items():
        differs = {name: value for name, value in settings.items() if now.get(number, {}).get(name) != value}
        driver = differs.pop("driver", None)
        if differs:
            vfinfo.apply(machine, device, number, _whole(settings, differs))
        if driver is not None and number in places:
            binding.bind(machine, places[number], str(driver), binding.override(machine, places[number]))


def _whole(settings: Settings, differs: Settings) -> Settings:
    """What differs with what the kernel takes in the same request."""
    together = {name for names in TOGETHER if differs.keys() & set(names) for name in names}
    return {name: value for name, value in settings.items() if name in together}
