"""Which driver has a PCI function: unbound, promised to one driver, probed, the promise taken back (sysfs)."""

import subprocess

from machine import Machine, MachineError, NotPresentError, VanishedError, Writer, vfio
from wire.policy import Request, Values

DEVICES = "/sys/bus/pci/devices"
DRIVERS = "/sys/bus/pci/drivers"
PROBE = "/sys/bus/pci/drivers_probe"
LIMIT_S = 60.0  # of loading a module
_NONE = ("", "(null)")


def read(machine: Machine, op: Request) -> Values:
    """Driver and driver_override of the function `op.item`; raises VanishedError when there is no such function."""
    return {"driver": driver(machine, op.item), "driver_override": override(machine, op.item)}


def driver(machine: Machine, address: str) -> str:
    """The driver's name, "" for none; raises VanishedError."""
    try:
        return machine.target(f"{DEVICES}/{address}/driver").rpartition("/")[2]
    except NotPresentError:
        machine_has(machine, address)
        return ""


def override(machine: Machine, address: str) -> str:
    """Which driver alone may take the function, "" for any."""
    text = machine.read(f"{DEVICES}/{address}/driver_override")
    return "" if text in _NONE else text


def machine_has(machine: Machine, address: str) -> None:
    """Raises VanishedError when there is no such function."""
    try:
        machine.names(f"{DEVICES}/{address}")
    except NotPresentError:
        raise VanishedError(f"PCI function {address} is gone") from None


def write(machine: Writer, op: Request) -> None:
    """Give the function to the driver of `op.after` ("" for none). Raises MachineError."""
    bind(machine, op.item, str(op.after["driver"]), str(op.after["driver_override"]))


def bind(machine: Writer, address: str, wanted: str, promise: str) -> None:
    """Bring a function to a driver, and leave `promise` as its driver_override. Raises MachineError."""
    now = driver(machine, address)
    if wanted != now:
        vfio.check(machine, address)
    if wanted and wanted != now:
        load(machine, wanted)
    try:
        if wanted:
            machine.write(f"{DEVICES}/{address}/driver_override", wanted + "\n")
        if now and now != wanted:
            machine.write(f"{DRIVERS}/{now}/unbind", address)
        if wanted and now != wanted:
            machine.write(PROBE, address)
    finally:
        machine.write(f"{DEVICES}/{address}/driver_override", promise + "\n")
    if (found := driver(machine, address)) != wanted:
        raise MachineError(f"{address}: {wanted or 'no driver'} was asked for, it has {found or 'none'}{_why(wanted)}")


def probe(machine: Writer, address: str) -> None:
    """Let the kernel find the function's own driver; nothing when it has one. Raises MachineError."""
    if not driver(machine, address):
        machine.write(PROBE, address)


def unbind(machine: Writer, address: str) -> None:
    """Take the function from its driver. Raises MachineError."""
    if now := driver(machine, address):
        machine.write(f"{DRIVERS}/{now}/unbind", address)


def load(machine: Machine, name: str) -> None:
    """Load the driver's module where the kernel has no such driver yet; it stays. Raises MachineError."""
    try:
        machine.names(f"{DRIVERS}/{name}")
    except NotPresentError:
        done = subprocess.run(["modprobe", "--", name], check=False, capture_output=True, text=True, timeout=LIMIT_S)
        if done.returncode:
            raise MachineError(f"driver {name}: {done.stderr.strip()[:120] or 'modprobe failed'}") from None


def _why(wanted: str) -> str:
    return "; without an IOMMU vfio-pci takes nothing" if wanted == "vfio-pci" else ""
