"""What a BMC is told to do over Redfish, in the worker's child: power, boot device, identify."""

from pollers.bmc_job import Answer
from pollers.redfish_parse import ROOT, Document, at, documents, link, links, text
from pollers.redfish_session import Session
from pollers.target import DeviceError

RESETS = {  # the first that the system takes
    "on": ("On", "ForceOn", "PushPowerButton"),
    "off": ("ForceOff",),
    "cycle": ("PowerCycle", "ForceRestart"),
    "reset": ("ForceRestart",),
    "soft": ("GracefulShutdown", "PushPowerButton"),
    "diag": ("Nmi",),
}
BOOT = {"none": "None", "pxe": "Pxe", "disk": "Hdd", "cd": "Cd", "bios": "BiosSetup"}


def run(service: Session, verb: str, argument: str) -> Answer:
    """Do it; raises DeviceError with one line when it was refused."""
    path, system = only_system(service)
    match verb:
        case "power":
            return Answer(text=power(service, path, system, argument))
        case "bootdev":
            return Answer(text=boot(service, path, argument))
        case "identify":
            return Answer(text=identify(service, path, system, argument))
        case _:
            raise DeviceError(f"Redfish does not do {verb!r} here")


def only_system(service: Session) -> tuple[str, Document]:
    """The system of the BMC; raises DeviceError for none and for several."""
    root = service.must_get(f"{ROOT}/")
    paths = links(service.must_get(link(root, "Systems") or f"{ROOT}/Systems"), "Members")
    if len(paths) != 1:
        raise DeviceError(f"the BMC has {len(paths)} systems, not one")
    return paths[0], service.must_get(paths[0])


def power(service: Session, path: str, system: Document, wanted: str) -> str:
    """The power state after what was wanted was sent ("status" sends nothing)."""
    if wanted == "status":
        return text(system, "PowerState").lower()
    if wanted not in RESETS:
        raise DeviceError(f"power {wanted!r}: {', '.join(RESETS)} or status")
    action = at(system, "Actions", "#ComputerSystem.Reset")
    target = at(action, "target")
    allowed = at(action, "ResetType@Redfish.AllowableValues") or _from_info(service, action)
    kinds = [kind for kind in RESETS[wanted] if not isinstance(allowed, list) or kind in allowed]
    if not isinstance(target, str) or not kinds:
        raise DeviceError(f"power {wanted}: the system does not do that")
    service.act("POST", target, {"ResetType": kinds[0]})
    return text(service.must_get(path), "PowerState").lower()


def _from_info(service: Session, action: object) -> object:
    info = at(action, "@Redfish.ActionInfo")
    document = service.get(info) if isinstance(info, str) else None
    for parameter in documents(document, "Parameters"):
        if at(parameter, "Name") == "ResetType":
            return at(parameter, "AllowableValues")
    return None


def boot(service: Session, path: str, wanted: str) -> str:
    """Set the boot device: "pxe", or "pxe once" for the next start alone."""
    device, *words = wanted.split()
    if device not in BOOT:
        raise DeviceError(f"boot device {device!r}: {', '.join(BOOT)}")
    enabled = "Disabled" if device == "none" else "Once" if "once" in words else "Continuous"
    override = {"BootSourceOverrideTarget": BOOT[device], "BootSourceOverrideEnabled": enabled}
    service.act("PATCH", path, {"Boot": override | ({"BootSourceOverrideMode": "UEFI"} if "efi" in words else {})})
    return device


def identify(service: Session, path: str, system: Document, wanted: str) -> str:
    """The LED on until it is told off, by the name that the system has for it."""
    if wanted not in ("on", "off"):
        raise DeviceError(f"identify {wanted!r}: on or off")
    if "LocationIndicatorActive" in system:
        service.act("PATCH", path, {"LocationIndicatorActive": wanted == "on"})
    else:
        service.act("PATCH", path, {"IndicatorLED": "Lit" if wanted == "on" else "Off"})
    return wanted
