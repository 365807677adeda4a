"""Who this host is: an id that stays, and the fingerprint that tells a clone from the machine it was copied from."""

import re
import uuid
from pathlib import Path

import msgspec

from agent import statefile
from machine import Machine, MachineError
from wire.report import Fingerprint
from wire.topics import is_id

NAMESPACE = uuid.UUID("5f1c2a52-6c2e-5d0e-9b0f-7261636b6864")
DMI = "/sys/class/dmi/id"
FILE = "identity.json"

_PLACEHOLDER = re.compile(
    r"to be filled|default string|not specified|not applicable|not available|system serial|serial number"
    r"|base board|chassis serial|o\.?e\.?m|invalid|unknown|none|n/?a|empty|123456789|xxx|\?",
    re.IGNORECASE,
)
_KNOWN_BAD_UUIDS = frozenset({"03000200-0400-0500-0006-000700080009", "12345678-1234-5678-90ab-cddeefaabbcc"})


class Identity(msgspec.Struct, frozen=True):
    """What identity.json holds; `source` says what the id was made of: "dmi", "serial" or "random"."""

    host_id: str
    source: str


class IdentityError(Exception):
    """identity.json cannot be read or written; a new id would make a second host of this machine."""


def sane_uuid(text: str) -> str:
    """The UUID in lower case, or "" when it is a vendor's placeholder (one digit repeated, sequences, not a UUID)."""
    try:
        value = str(uuid.UUID(text))
    except ValueError:
        return ""
    return "" if len(set(value) - {"-"}) < 4 or value in _KNOWN_BAD_UUIDS else value


def sane_serial(text: str) -> str:
    """The serial number, or "" when it is a vendor's placeholder."""
    text = text.strip()
    letters = set(re.sub(r"[^0-9a-z]", "", text.lower()))
    return "" if len(text) < 4 or len(letters) < 2 or _PLACEHOLDER.search(text) else text


def load(state: Path, fingerprint: Fingerprint) -> Identity:
    """The identity of identity.json, made and kept there the first time; raises IdentityError."""
    path = state / FILE
    try:
        identity = msgspec.json.decode(path.read_bytes(), type=Identity)
    except FileNotFoundError:
        return _keep(path, derive(fingerprint))
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise IdentityError(f"{path}: {error}; restore it, or remove it to be a new host") from None
    if not is_id(identity.host_id):
        raise IdentityError(f"{path}: {identity.host_id!r} is not a host id; restore it, or remove it to be a new host")
    return identity


def derive(fingerprint: Fingerprint) -> Identity:
    """An id from the hardware when it says who it is (the same after a reinstall), else a random one."""
    if fingerprint.dmi_uuid:
        return Identity(str(uuid.uuid5(NAMESPACE, f"dmi/{fingerprint.dmi_uuid}")), "dmi")
    if fingerprint.product_serial and fingerprint.board_serial:
        serials = f"serial/{fingerprint.product_serial}/{fingerprint.board_serial}"
        return Identity(str(uuid.uuid5(NAMESPACE, serials)), "serial")
    return Identity(str(uuid.uuid4()), "random")


def read_fingerprint(machine: Machine) -> Fingerprint:
    """What the machine says of itself, placeholders left out; never raises MachineError."""
    return Fingerprint(
        dmi_uuid=sane_uuid(_read(machine, f"{DMI}/product_uuid")),
        product_serial=sane_serial(_read(machine, f"{DMI}/product_serial")),
        board_serial=sane_serial(_read(machine, f"{DMI}/board_serial")),
        machine_id=_read(machine, "/etc/machine-id"),
        macs=_permanent_macs(machine),
    )


def boot_id(machine: Machine) -> str:
    """This boot's id, "" when the kernel does not say."""
    return _read(machine, "/proc/sys/kernel/random/boot_id")


def hostname(machine: Machine) -> str:
    """The kernel's host name."""
    return _read(machine, "/proc/sys/kernel/hostname")


def _permanent_macs(machine: Machine) -> list[str]:
    """Permanent MACs of the interfaces that stand on a device, sorted.

    Virtual functions are left out: their drivers make MACs up anew, and a virtual machine shows one as its own.
    """
    from machine.rtnl import read_links  # noqa: PLC0415 - identity is also read where there is no netlink

    try:
        links = read_links(machine)
    except MachineError:
        return []
    devices = (link for link in links if link.perm_mac and _is_own_device(machine, link.ifname))
    return sorted({link.perm_mac for link in devices})


def _is_own_device(machine: Machine, ifname: str) -> bool:
    device = f"/sys/class/net/{ifname}/device"
    return _is_link(machine, device) and not _is_link(machine, f"{device}/physfn")


def _is_link(machine: Machine, path: str) -> bool:
    try:
        return bool(machine.target(path))
    except MachineError:
        return False


def _read(machine: Machine, path: str) -> str:
    try:
        return machine.read(path)
    except MachineError:
        return ""


def _keep(path: Path, identity: Identity) -> Identity:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        statefile.replace(path, msgspec.json.encode(identity))
    except OSError as error:
        raise IdentityError(f"{path}: {error}") from None
    return identity
