"""NIC firmware: flashed from a file that is named and checked, on stable power, and only with a way back."""

import re
from collections.abc import Iterable, Iterator, Sequence

from msgspec import structs

from tuners.about import About, Stage
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, impossible, skip
from wire.facts import Bmc, Firmware, Nic, PowerMeter, Psu, Virt
from wire.policy import Blast, Change, OutcomeStatus, Request, Setting

NAME = "firmware"
ABOUT = About(
    stage=Stage.DEVICE,
    what="firmware of a NIC",
    interface="devlink FLASH_UPDATE, ETHTOOL_FLASHDEV",
    unit="version",
    undo="the former file is flashed; without one nothing is",
    blast=Blast.LINK,
    facts=("nic", "virt", "firmware", "psu", "bmc", "power"),
    quirks="most NICs run it only after a reset or a reboot",
)
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_PART = re.compile(r"[A-Za-z0-9._-]{1,32}")
NO_WAY_BACK = "former, former_sha256 and former_version are needed: without the way back nothing is flashed"


def _check_file(text: str) -> str:
    return "" if text.startswith("/") and "\0" not in text and len(text) < 1024 else "must be an absolute path"


def _check_sha256(text: str) -> str:
    return "" if _SHA256.fullmatch(text) else "must be 64 hexadecimal digits"


def _check_version(text: str) -> str:
    return "" if 0 < len(text) <= 64 and text.isprintable() else "must be a version as the device says it"


def _check_part(text: str) -> str:
    return "" if _PART.fullmatch(text) else "must be one of devlink's words such as fw.mgmt"


VALUES: dict[str, Spec] = {
    "version": Spec(str, "what the device says it has then", check=_check_version),
    "file": Spec(str, "an absolute path on the host", check=_check_file),
    "sha256": Spec(str, "of the file", check=_check_sha256),
    "former": Spec(str, "the file of the version that is there now", check=_check_file),
    "former_sha256": Spec(str, "of the former file", check=_check_sha256),
    "former_version": Spec(str, "the version the former file brings back", check=_check_version),
    "part": Spec(str, "devlink's word for the part, such as fw.mgmt", check=_check_part),
    "unknown_power": Spec(bool, "flash although no power supply and no BMC say that power is stable"),
}
_NEEDED = ("version", "file", "sha256")
_BACK = ("former", "former_sha256", "former_version")


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """One request per NIC whose firmware is another version; NICs of one device are flashed once."""
    planned: set[str] = set()
    for setting in settings:
        nic = facts.nics[setting.nic]
        for step in _one(setting, nic, facts):
            item = step.op.item if isinstance(step, Change) and isinstance(step.op, Request) else ""
            if not item or item not in planned:
                yield step
            planned.add(item)


def _one(setting: Setting, nic: Nic, facts: HostFacts) -> Iterator[Step]:
    values = {name: str(value) for name, value in setting.values.items()}
    if missing := [name for name in _NEEDED if name not in values]:
        yield impossible(setting, nic.ifname, f"{', '.join(missing)} are needed")
        return
    fact = find(facts, nic, values.get("part", ""))
    if fact is None:
        yield skip(setting, nic.ifname, f"it tells no version of {values.get('part') or 'its firmware'}")
        return
    now = fact.stored or fact.running
    if now == values["version"]:
        if fact.running != now:
            reason = f"{now} is stored, and needs a reboot: {fact.running or 'another one'} runs until then"
            yield skip(setting, nic.ifname, reason, OutcomeStatus.APPLIED)
    elif any(name not in values for name in _BACK) or values["former_version"] != now:
        yield skip(setting, nic.ifname, f"it has {now or 'no version'}: {NO_WAY_BACK}")
    elif unstable := unstable_power(facts, known=not setting.values.get("unknown_power")):
        yield skip(setting, nic.ifname, unstable, OutcomeStatus.REFUSED)
    else:
        yield _change(setting, nic, fact, facts)


def _change(setting: Setting, nic: Nic, fact: Firmware, facts: HostFacts) -> Change:
    values = {name: str(value) for name, value in setting.values.items()}
    return Change(
        knob=NAME,
        target=f"{nic.ifname} {fact.part}".strip(),
        op=Request(
            "flash",
            {"version": values["former_version"], "file": values["former"], "sha256": values["former_sha256"]},
            {"version": values["version"], "file": values["file"], "sha256": values["sha256"]},
            ifname=nic.ifname,
            item=f"{place(facts, nic)}#{fact.part}",
        ),
        blast=Blast.LINK,
        nic=setting.nic,
        policy=setting.policy,
        reason="a reset or a reboot may be needed before it runs",
    )


def place(facts: HostFacts, nic: Nic) -> str:
    """The NIC's device as devlink names it; "" when it is not known."""
    others = (one.device for one in facts.of(Virt) if one.key == nic.key)
    return f"pci/{nic.address}" if nic.address else next(others, "")


def find(facts: HostFacts, nic: Nic, part: str) -> Firmware | None:
    """The firmware of the NIC's device: of the part that is asked for, else of the only one with a version."""
    device = place(facts, nic).removeprefix("pci/")
    mine = [one for one in facts.of(Firmware) if one.type == "nic" and one.device == device and not one.fixed]
    found = [one for one in mine if one.part == part] if part else mine
    return found[0] if device and len(found) == 1 else None


def unstable_power(facts: HostFacts, *, known: bool) -> str:
    """Why power may fail while the firmware is written, "" when it is stable; with `known` somebody has to say so."""
    supplies, controllers = facts.of(Psu), facts.of(Bmc)
    for one in supplies:
        if one.alarms or one.plugged is False or one.status == "critical":
            return f"power supply {one.label or one.key} {_trouble(one)}"
    if alarmed := [one for one in facts.of(PowerMeter) if one.alarm]:
        return f"power meter {alarmed[0].label or alarmed[0].key} is past its limit"
    if bad := [fault for one in controllers for fault in one.faults if "power" in fault or fault == "interlock"]:
        return f"the BMC says: {bad[0]}"
    said = any(one.power == "on" for one in controllers) or any(one.present is not False for one in supplies)
    if known and not said:
        return "neither a power supply nor a BMC says that power is stable (unknown_power: true flashes without)"
    return ""


def _trouble(one: Psu) -> str:
    return (
        f"raises {', '.join(one.alarms)}" if one.alarms else "has no mains" if one.plugged is False else "is critical"
    )


def project(facts: HostFacts, change: Change) -> HostFacts:
    """The facts once the firmware is stored."""
    op = change.op
    if not isinstance(op, Request):
        return facts
    nic, part = facts.nics[change.nic], op.item.partition("#")[2]
    fact = find(facts, nic, part)
    return facts.replace([structs.replace(fact, stored=str(op.after["version"]))]) if fact else facts
