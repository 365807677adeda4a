"""How many virtual functions a NIC has, and by whose rules its switch works; what is in use or not ours stays."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from msgspec import structs

from tuners.about import About, Stage
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, impossible, skip
from wire.facts import Nic, Virt, VirtFunction
from wire.policy import Blast, Change, FileWrite, Op, OutcomeStatus, Request, Setting, Values
from wire.vf import TOGETHER, Settings, format_vfs

NAME = "sriov"
ABOUT = About(
    stage=Stage.DEVICE,
    what="virtual functions of a NIC, and its switch's mode",
    interface="sriov_numvfs, sriov_drivers_autoprobe, devlink ESWITCH_SET, /run/rackhand/ledger.json",
    unit="functions",
    undo="the count before, with the settings and drivers that those functions had",
    blast=Blast.LINK,
    facts=("nic", "virt"),
    recreates=True,
    quirks="igb gives queues of its own away; mlx5 needs functions unbound for switchdev, ice needs none to be there",
)
AUTOPROBE = "sriov_drivers_autoprobe"

VALUES: dict[str, Spec] = {
    "vfs": Spec(int, "virtual functions", 0, 4096, ("max",)),
    "autoprobe": Spec(bool, "the host's drivers take new functions"),
    "eswitch": Spec(str, "whose rules the NIC's switch follows", words=("legacy", "switchdev")),
    "adopt": Spec(bool, "functions that somebody else made are taken over"),
}


class Switching(NamedTuple):
    """How a driver wants the mode of its switch to be changed."""

    empty: bool = False  # while there are no virtual functions
    unbind: bool = False  # while no driver has a virtual function
    legacy: bool = False  # and functions come and go in legacy mode alone


# ice: "Changing eswitch mode is allowed only if there is no VF created"; mlx5: the kernel's switchdev documentation.
SWITCHING = {
    "ice": Switching(empty=True),
    "mlx5_core": Switching(unbind=True, legacy=True),
    "netdevsim": Switching(),
}


def device(fact: Virt) -> str:
    """The device as devlink names it."""
    return fact.device or f"pci/{fact.address}"


def virts(facts: HostFacts) -> dict[str, Virt]:
    """The facts about functions by the key of their NIC."""
    return {fact.key: fact for fact in facts.of(Virt)}


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """One request per count that is passed through, one per mode; in the driver's own order where both change."""
    known = virts(facts)
    for setting in settings:
        fact = known.get(setting.nic)
        if fact is None or fact.vfs_set is None:
            yield skip(setting, facts.nics[setting.nic].ifname, "the driver shares no virtual functions out")
        else:
            yield from _one(setting, fact, facts)


def _one(setting: Setting, fact: Virt, facts: HostFacts) -> Iterator[Step]:
    nic = facts.nics[setting.nic]
    driver, target = nic.driver, nic.ifname
    count = _count(setting, fact)
    if isinstance(count, str):
        yield impossible(setting, f"{target} vfs", count)
        return
    mode = str(setting.values.get("eswitch", fact.eswitch_mode))
    switching = SWITCHING.get(driver)
    if mode != fact.eswitch_mode and (not fact.eswitch_mode or switching is None):
        why = "the NIC has no such switch" if switching else f"how {driver} changes its mode is not known"
        yield skip(setting, f"{target} eswitch", why)
        mode, switching = fact.eswitch_mode, None
    if refusal := _refusal(setting, fact, count, mode, facts):
        yield skip(setting, f"{target} vfs", refusal, OutcomeStatus.REFUSED)
        return
    if "autoprobe" in setting.values and fact.autoprobe is None:
        yield skip(setting, f"{target} autoprobe", "the kernel has no such switch for this device")
    yield from _steps(setting, fact, _path(fact, count, mode, switching or Switching()), nic)


def _count(setting: Setting, fact: Virt) -> int | str:
    """How many functions there are to be, or why there cannot be so many."""
    wanted = setting.values.get("vfs", fact.vfs_set or 0)
    if wanted == "max":
        return fact.vfs_total or "how many functions it can have is not said"
    if fact.vfs_total and int(wanted) > fact.vfs_total:
        return f"{wanted} virtual functions are above the device's {fact.vfs_total}: its firmware's settings have more"
    return int(wanted)


def _refusal(setting: Setting, fact: Virt, count: int, mode: str, facts: HostFacts) -> str:
    """Why the functions that are there must not be taken away; "" when they may, or stay."""
    same = count == fact.vfs_set and mode == fact.eswitch_mode
    if same or not (fact.vfs_set or mode != fact.eswitch_mode):
        return ""
    if used := [one for one in fact.vfs if one.used]:
        return f"virtual function {used[0].index} is in use: {used[0].used}"
    nic = facts.nics[setting.nic]
    if mode != fact.eswitch_mode and nic.master:
        return f"{nic.ifname} is a port of {nic.master}: take it out before the switch's mode changes"
    if fact.vfs_set and fact.vfs_owned != fact.vfs_set and not setting.values.get("adopt"):
        return f"its {fact.vfs_set} virtual functions are not the agent's: adopt: true takes them over"
    return ""


State = tuple[int, str]  # count, mode


def _path(fact: Virt, count: int, mode: str, switching: Switching) -> list[State]:
    """The states that are passed through, the last as it is to be; one thing changes at a time."""
    start = (fact.vfs_set or 0, fact.eswitch_mode)
    states = [start]
    if mode != start[1] and switching.empty:
        states += [(0, start[1]), (0, mode)]
    elif mode == start[1] == "switchdev" and count != start[0] and switching.legacy:
        states += [(start[0], "legacy"), (count, "legacy")]
    elif mode != start[1]:
        states.append((start[0], mode) if mode == "legacy" else (count, start[1]))
    wanted = [*states, (count, states[-1][1]), (count, mode)]
    return [state for at, state in enumerate(wanted) if at == 0 or state != wanted[at - 1]]


def _steps(setting: Setting, fact: Virt, path: Sequence[State], nic: Nic) -> Iterator[Step]:
    autoprobe, owned, item = fact.autoprobe, fact.vfs_owned, device(fact)
    probed = autoprobe if autoprobe is None else bool(setting.values.get("autoprobe", autoprobe))
    unbind = SWITCHING.get(nic.driver, Switching()).unbind
    for (old, old_mode), (new, new_mode) in itertools.pairwise(path):
        if old != new:
            before: Values = {"vfs": old, "settings": _text(fact, old), "owned": owned}
            after: Values = {"vfs": new, "settings": _text(fact, new), "owned": new}
            if autoprobe is not None and probed is not None:
                before["autoprobe"], after["autoprobe"] = autoprobe, probed
                autoprobe = probed
            owned = new
            op = Request("numvfs", before, after, item=item)
            yield _change(setting, f"{nic.ifname} vfs", op, f"{old} to {new} virtual functions")
        else:
            how: Values = {"settled": True, "unbind": unbind}
            op = Request("eswitch", {"mode": old_mode, **how}, {"mode": new_mode, **how}, item=item)
            yield _change(setting, f"{nic.ifname} eswitch", op, f"{old_mode} to {new_mode}")
    if probed != autoprobe:
        path_of = f"/sys/bus/pci/devices/{fact.address}/{AUTOPROBE}"
        write = FileWrite(path_of, str(int(bool(autoprobe))), str(int(bool(probed))))
        yield _change(setting, f"{nic.ifname} autoprobe", write, "as the policy says", Blast.SAFE)


def _text(fact: Virt, count: int) -> str:
    """What the first `count` functions have now, so that they have it again."""
    return format_vfs({one.index: told(one) for one in fact.vfs if one.index < count})


def told(one: VirtFunction) -> Settings:
    """What is known of a function's settings; nothing of one whose driver says nothing."""
    found: Settings = {}
    if one.link_state:
        names = [name for names in TOGETHER for name in names]
        found = {name: value for name in names if (value := getattr(one, name)) is not None}
    if one.address:
        found["driver"] = one.driver
    return found


def _change(setting: Setting, target: str, op: Op, reason: str, blast: Blast = Blast.LINK) -> Change:
    return Change(knob=NAME, target=target, op=op, blast=blast, nic=setting.nic, policy=setting.policy, reason=reason)


def project(facts: HostFacts, change: Change) -> HostFacts:
    """The facts after one change; what is new has to be read before anything is known of it."""
    fact, op = virts(facts)[change.nic], change.op
    if isinstance(op, FileWrite):
        return facts.replace([structs.replace(fact, autoprobe=op.after == "1")])
    if not isinstance(op, Request):
        return facts
    if op.message == "eswitch":
        bare = [VirtFunction(index=one.index) for one in fact.vfs]
        return unread(facts, fact, structs.replace(fact, eswitch_mode=str(op.after["mode"]), vfs=bare))
    count = int(op.after["vfs"])
    made = structs.replace(
        fact,
        vfs=[VirtFunction(index=number) for number in range(count)],
        vfs_set=count,
        vfs_owned=int(op.after["owned"]),
        autoprobe=bool(op.after["autoprobe"]) if "autoprobe" in op.after else fact.autoprobe,
    )
    return unread(facts, fact, made)


def unread(facts: HostFacts, old: Virt, new: Virt) -> HostFacts:
    """The facts with `new`, without what has to be read again of its NIC, and without the functions' interfaces."""
    keys = {one.key for one in old.vfs if one.key}
    gone = [one for one in facts.all() if one.key in keys or (one.key == old.key and not isinstance(one, (Nic, Virt)))]
    return facts.replace([new], gone)
