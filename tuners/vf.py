"""What each virtual function may do, and whose it is: MAC, VLAN, trust, spoof check, rates, link, driver."""

from collections.abc import Iterable, Iterator, Sequence

from msgspec import structs

from tuners import iommu
from tuners.about import About, Stage
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, impossible, skip
from tuners.sriov import device, told, virts
from wire.facts import Virt, VirtFunction
from wire.policy import Blast, Change, OutcomeStatus, Request, Setting, Values
from wire.vf import TOGETHER, Settings, parse_vfs

NAME = "vf"
ABOUT = About(
    stage=Stage.SHAPE,
    what="settings and driver of each virtual function",
    interface="rtnetlink IFLA_VFINFO_LIST, driver_override and drivers_probe",
    unit="Mbit/s, VLAN ids",
    undo="the settings before, and the driver before",
    blast=Blast.LINK,
    facts=("nic", "virt", "pci"),
    quirks="igb has no link state, minimal rate and 802.1ad; igbvf takes a new MAC when it is bound anew; "
    "a trusted function may change its own",
)
HOST, VFIO = "host", "vfio-pci"


def _check(text: str) -> str:
    try:
        parse_vfs(text)
    except ValueError as error:
        return str(error)
    return "" if text.strip() else "names no function"


VALUES: dict[str, Spec] = {
    "functions": Spec(str, 'functions and settings such as "0-3 vlan=100/3 trust=on; 4 driver=vfio-pci"', check=_check),
    "unsafe_noiommu": Spec(bool, "VFIO may have a function that no IOMMU confines"),
}
# The driver of a virtual function where it is not that of the physical one.
DRIVERS = {
    "igb": "igbvf",
    "ixgbe": "ixgbevf",
    "i40e": "iavf",
    "ice": "iavf",
    **{name: name for name in ("mlx5_core", "mlx4_core", "bnxt_en", "nfp", "qede", "sfc", "hns3")},
}


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """One request for what the kernel takes together, per function; its driver at last."""
    known = virts(facts)
    for setting in settings:
        wanted = parse_vfs(str(setting.values.get("functions", "")))
        fact = known.get(setting.nic)
        if fact is None or fact.vfs_set is None:
            yield skip(setting, facts.nics[setting.nic].ifname, "the driver shares no virtual functions out")
            continue
        for number, asked in sorted(wanted.items()):
            yield from _function(setting, fact, number, asked, facts)


def _function(setting: Setting, fact: Virt, number: int, asked: Settings, facts: HostFacts) -> Iterator[Step]:
    target = f"{fact.ifname} vf {number}"
    one = next((one for one in fact.vfs if one.index == number), None)
    if one is None:
        yield impossible(setting, target, f"there are {fact.vfs_set or 0} virtual functions: sriov has their number")
        return
    now = told(one)
    for names in TOGETHER:
        if here := {name: asked[name] for name in names if name in asked}:
            yield from _together(setting, fact, one, now, here)
    if "driver" in asked:
        yield from _driver(setting, fact, one, str(asked["driver"]), facts)


def _together(setting: Setting, fact: Virt, one: VirtFunction, now: Settings, asked: Settings) -> Iterator[Step]:
    """The change to settings that the kernel takes in one request, with those of them that stay."""
    target = f"{fact.ifname} vf {one.index}"
    name = next(iter(asked))
    names = next(names for names in TOGETHER if name in names)
    before: Values = {each: now[each] for each in names if each in now}
    after: Values = {**before, **asked}
    if not now.keys() >= set(names):
        yield skip(setting, f"{target} {name}", f"the driver does not tell {name}")
    elif before != after and name == "mac" and one.used:
        yield skip(setting, f"{target} mac", f"it is in use: {one.used}", OutcomeStatus.REFUSED)
    elif before != after:
        op = Request("vf", before, after, item=f"{device(fact)}#{one.index}")
        yield _change(setting, f"{target} {name}", op, Blast.BLACKHOLE)


def _driver(setting: Setting, fact: Virt, one: VirtFunction, asked: str, facts: HostFacts) -> Iterator[Step]:
    target = f"{fact.ifname} vf {one.index} driver"
    wanted = DRIVERS.get(facts.nics[setting.nic].driver, "") if asked == HOST else asked
    if asked == HOST and not wanted:
        yield skip(setting, target, "which driver its functions have is not known: name it")
    elif not one.address:
        yield skip(setting, target, "it is no PCI function, or not read yet")
    elif wanted == one.driver:
        return
    elif one.used:
        yield skip(setting, target, f"it is in use: {one.used}", OutcomeStatus.REFUSED)
    elif wanted == VFIO and (why := _unsafe(setting, fact, one, facts)):
        yield impossible(setting, target, why)
    else:
        promise: Values = {"driver_override": one.driver_override}
        op = Request("driver", {"driver": one.driver, **promise}, {"driver": wanted, **promise}, item=one.address)
        yield _change(setting, target, op, Blast.LINK)


def _unsafe(setting: Setting, fact: Virt, one: VirtFunction, facts: HostFacts) -> str:
    """Why VFIO must not have the function: no IOMMU, or others of its group that stay with the host."""
    asked = parse_vfs(str(setting.values["functions"]))
    along = {each.address for each in fact.vfs if asked.get(each.index, {}).get("driver") == VFIO}
    allowed = bool(setting.values.get("unsafe_noiommu"))
    return iommu.refusal(facts, one.address, one.iommu_group, along, allowed=allowed)


def _change(setting: Setting, target: str, op: Request, blast: Blast) -> Change:
    return Change(
        knob=NAME,
        target=target,
        op=op,
        blast=blast,
        nic=setting.nic,
        policy=setting.policy,
        reason="as the policy says",
    )


def project(facts: HostFacts, change: Change) -> HostFacts:
    """The facts after one change to a function."""
    fact, op = virts(facts)[change.nic], change.op
    if not isinstance(op, Request):
        return facts

    def changed(one: VirtFunction) -> VirtFunction:
        if op.message == "driver" and one.address == op.item:
            return structs.replace(one, driver=str(op.after["driver"]))
        mine = op.message == "vf" and op.item == f"{device(fact)}#{one.index}"
        return structs.replace(one, **dict(op.after)) if mine else one

    after = facts.replace([structs.replace(fact, vfs=[changed(one) for one in fact.vfs])])
    return iommu.bound(after, op) if op.message == "driver" else after
