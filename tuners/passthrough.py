"""PCI functions given to VFIO, or back to a driver: whole IOMMU groups, and nothing that the host uses."""

import re
from collections.abc import Iterable, Iterator, Sequence

from msgspec import structs

from tuners import iommu
from tuners.about import About, Scope, Stage
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, impossible, skip
from wire.facts import Nic, Passthrough, Pci, Virt
from wire.policy import Change, OutcomeStatus, Request, Setting, Values

NAME = "passthrough"
ABOUT = About(
    stage=Stage.DEVICE,
    scope=Scope.HOST,
    what="PCI functions bound to vfio-pci",
    interface="driver_override, drivers_probe",
    unit="PCI addresses",
    undo="the driver before",
    facts=("nic", "virt", "pci"),
    quirks="the module of vfio-pci stays loaded",
)
VFIO = "vfio-pci"
NETWORK = "02"  # PCI class of what can be told to be idle
_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_DRIVER = re.compile(r"[A-Za-z0-9_-]{1,40}")


def addresses(text: str) -> list[str]:
    """The PCI addresses of "0000:3b:00.0 0000:3b:00.1", also with commas."""
    return text.replace(",", " ").split()


def _check_devices(text: str) -> str:
    bad = [each for each in addresses(text) if not _ADDRESS.fullmatch(each)]
    return f'"{bad[0][:40]}" is no PCI address such as 0000:3b:00.0' if bad else "" if text.strip() else "names none"


def _check_driver(text: str) -> str:
    return "" if _DRIVER.fullmatch(text) else f'"{text[:40]}" is no driver\'s name'


VALUES: dict[str, Spec] = {
    "devices": Spec(str, "PCI addresses such as 0000:3b:00.0", check=_check_devices),
    "driver": Spec(str, "a driver's name (default vfio-pci)", check=_check_driver),
    "unsafe_noiommu": Spec(bool, "VFIO may have a function that no IOMMU confines"),
}


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """One request per function that has another driver."""
    for setting in settings:
        wanted = str(setting.values.get("driver", VFIO))
        listed = dict.fromkeys(addresses(str(setting.values.get("devices", ""))))
        for address in listed:
            yield from _one(setting, address, wanted, set(listed), facts)


def _one(setting: Setting, address: str, wanted: str, along: set[str], facts: HostFacts) -> Iterator[Step]:
    given = next((one for one in facts.of(Passthrough) if one.key == address), None)
    fact = facts.pci.get(address)
    if fact is None:
        yield impossible(setting, address, "there is no such PCI function, or it is a bridge")
        return
    driver = given.driver if given else fact.driver
    if driver == wanted:
        return
    if used := _used(fact, given, facts):
        yield skip(setting, address, used, OutcomeStatus.REFUSED)
        return
    allowed = bool(setting.values.get("unsafe_noiommu"))
    if wanted == VFIO and (why := iommu.refusal(facts, address, fact.iommu_group, along, allowed=allowed)):
        yield impossible(setting, address, why)
        return
    promise: Values = {"driver_override": given.driver_override if given else ""}
    yield Change(
        knob=NAME,
        target=address,
        op=Request("driver", {"driver": driver, **promise}, {"driver": wanted, **promise}, item=address),
        policy=setting.policy,
        reason=f"{driver or 'no driver'} to {wanted}",
    )


def _used(fact: Pci, given: Passthrough | None, facts: HostFacts) -> str:
    """Why the function must not be taken from who has it; "" when nobody is known to use it.

    A link that carries the management is up, in a bond or a bridge, or has functions: it is never taken, so that what
    is taken cuts nothing and needs no allowance.
    """
    if given is not None and given.used:
        return f"it is in use: {given.used}"
    if any(one.address == fact.key for virt in facts.of(Virt) for one in virt.vfs):
        return "it is a virtual function: the knob vf has its driver"
    return _busy(fact, facts) if given is None and fact.driver else ""


def _busy(fact: Pci, facts: HostFacts) -> str:
    """Why the host's driver must keep the function; "" when it has nothing to do."""
    if not fact.class_id.startswith(NETWORK):
        return f"whether {fact.driver} has work for it cannot be told: unbind it by hand"
    nics = [nic for nic in facts.nics.values() if nic.address == fact.key]
    if not nics:
        return "its interface is in another network namespace, or it has none that can be told to be idle"
    if busy := [nic for nic in nics if nic.up or nic.master or _above(nic, facts)]:
        return f"{busy[0].ifname} is {'up' if busy[0].up else 'part of another interface'}"
    shared = any(one.address == fact.key and (one.vfs_set or one.vfs) for one in facts.of(Virt))
    return f"{nics[0].ifname} has virtual functions" if shared else ""


def _above(nic: Nic, facts: HostFacts) -> bool:
    return any(nic.ifname in other.lower for other in facts.nics.values())


def project(facts: HostFacts, change: Change) -> HostFacts:
    """The facts once a function has its driver; the interfaces that it had are gone."""
    op = change.op
    if not isinstance(op, Request):
        return facts
    driver = str(op.after["driver"])
    keys = {nic.key for nic in facts.nics.values() if nic.address == op.item}
    gone = [one for one in facts.all() if one.key in keys]
    known = next((one for one in facts.of(Passthrough) if one.key == op.item), None)
    given = structs.replace(known or Passthrough(key=op.item, type="pci"), driver=driver)
    return iommu.bound(facts.replace([given], gone), op)
