"""What a BMC is told to do, in the worker's child: power, boot device, identify, and its event log to read."""

import time

from pollers.bmc_job import Answer
from pollers.ipmi_session import Session
from pollers.target import DeviceError

CHASSIS = 0x00
CONTROL = {"off": 0, "on": 1, "cycle": 2, "reset": 3, "diag": 4, "soft": 5}  # Chassis Control, table 28-4
BOOT = {"none": 0, "pxe": 1, "disk": 2, "cd": 5, "bios": 6}  # boot flags, parameter 5, data 2 bits 2-5
VERBS = ("power", "bootdev", "identify")
_LOOKS, _LOOK_S = 20, 0.5  # for what was wanted to be so
_VALIDITY, _FLAGS = 3, 5  # boot option parameters
_CODES = {0xC1: "it does not do that", 0xCC: "it takes no such value", 0xD4: "the user is not allowed to"}


def run(bmc: Session, verb: str, argument: str) -> Answer:
    """Do it; raises DeviceError with one line when it was refused."""
    match verb:
        case "power":
            return Answer(text=power(bmc, argument))
        case "bootdev":
            return Answer(text=boot(bmc, argument))
        case "identify":
            return Answer(text=identify(bmc, argument))
        case _:
            raise DeviceError(f"a BMC does not do {verb!r} here")


def _do(bmc: Session, what: str, netfn: int, number: int, *data: int) -> bytes:
    code, said = bmc.code(netfn, number, *data)
    if code:
        raise DeviceError(f"{what} was refused: {_CODES.get(code, f'completion code 0x{code:02x}')}")
    return said


def power(bmc: Session, wanted: str) -> str:
    """The power state, "on" or "off", after what was wanted was sent and had some seconds ("status" sends nothing)."""
    state = ""
    if wanted != "status":
        if wanted not in CONTROL:
            raise DeviceError(f"power {wanted!r}: {', '.join(CONTROL)} or status")
        _do(bmc, f"power {wanted}", CHASSIS, 0x02, CONTROL[wanted])
    for _ in range(_LOOKS):
        state = "on" if (_do(bmc, "power status", CHASSIS, 0x01) or b"\0")[0] & 1 else "off"
        if wanted not in ("on", "off") or state == wanted:
            break
        time.sleep(_LOOK_S)
    return state


def boot(bmc: Session, wanted: str) -> str:
    """Set the boot device: "pxe", or "pxe once" for the next start alone; UEFI's way when "efi" is among the words."""
    device, *words = wanted.split()
    if device not in BOOT:
        raise DeviceError(f"boot device {device!r}: {', '.join(BOOT)}")
    lasting = 0x40 * ("once" not in words and device != "none") | 0x20 * ("efi" in words)
    valid = 0x80 if device != "none" else 0
    bmc.code(CHASSIS, 0x08, _VALIDITY, 8)  # keep it longer than the minute after which BMCs forget it
    _do(bmc, "boot device", CHASSIS, 0x08, _FLAGS, valid | lasting, BOOT[device] << 2, 0, 0, 0)
    return device


def identify(bmc: Session, wanted: str) -> str:
    """The identify LED on until it is told off."""
    if wanted not in ("on", "off"):
        raise DeviceError(f"identify {wanted!r}: on or off")
    code, _ = bmc.code(CHASSIS, 0x04, 0, 1) if wanted == "on" else bmc.code(CHASSIS, 0x04, 0)
    if code and wanted == "on":  # one that knows no end: as long as it goes
        _do(bmc, "identify on", CHASSIS, 0x04, 255)
    elif code:
        raise DeviceError(f"identify off was refused: {_CODES.get(code, f'completion code 0x{code:02x}')}")
    return wanted
