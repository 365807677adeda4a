"""Which process holds a function through VFIO: to take it away then waits in the kernel until it is let go."""

from collections.abc import Mapping

from machine import Machine, MachineError
from wire.text import clean

FOLDER = "/dev/vfio/"
_CONTROL = "/dev/vfio/vfio"  # open without any device


def read_open(machine: Machine) -> dict[str, str]:
    """What is open below /dev/vfio ("/dev/vfio/12", "/dev/vfio/devices/vfio3"), and the process that has it."""
    found: dict[str, str] = {}
    for pid in filter(str.isdigit, _names(machine, "/proc")):
        for fd in _names(machine, f"/proc/{pid}/fd"):
            target = _target(machine, f"/proc/{pid}/fd/{fd}")
            if target.startswith(FOLDER) and target != _CONTROL:
                found[target] = f"{clean(_text(machine, f'/proc/{pid}/comm'), 16)} ({pid})"
    return found


def holder(machine: Machine, address: str, opened: Mapping[str, str]) -> str:
    """The process that holds the VFIO group or device of a function; "" for none."""
    folder = f"/sys/bus/pci/devices/{address}"
    group = _target(machine, f"{folder}/iommu_group").rpartition("/")[2]
    places = [f"{FOLDER}{group}", f"{FOLDER}noiommu-{group}"] if group else []
    places += [f"{FOLDER}devices/{name}" for name in _names(machine, f"{folder}/vfio-dev")]
    return next((opened[place] for place in places if place in opened), "")


def check(machine: Machine, address: str) -> None:
    """Raises MachineError when a process holds the function, now."""
    bound = _target(machine, f"/sys/bus/pci/devices/{address}/driver").rpartition("/")[2]
    if "vfio" in bound and (process := holder(machine, address, read_open(machine))):
        raise MachineError(f"{address} is held open by {process}")


def _names(machine: Machine, path: str) -> list[str]:
    try:
        return machine.names(path)
    except MachineError:
        return []


def _target(machine: Machine, path: str) -> str:
    try:
        return machine.target(path)
    except MachineError:
        return ""


def _text(machine: Machine, path: str) -> str:
    try:
        return machine.read(path)
    except MachineError:
        return ""
