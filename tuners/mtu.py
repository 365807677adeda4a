"""The MTU, end to end: raised only where the neighbour takes it, and what stands on the port follows."""

import ipaddress
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec import structs

from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, impossible, skip
from wire.facts import Nic
from wire.policy import Blast, Change, FileWrite, OutcomeStatus, Request, Setting

FRAME = 18  # bytes of a frame around its payload: header and checksum
_FOLLOW = ("vlan", "macvlan", "ipvlan")


def _address(text: str) -> str:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return f"must be an IP address, not {text[:40]!r}"
    return ""


VALUES: dict[str, Spec] = {
    "mtu": Spec(int, "bytes", 1280, 65535),  # below 1280 the kernel takes IPv6 off the interface
    "mtu_probe": Spec(str, "an IP address that must answer a whole packet of that size", check=_address),
    "mtu_force": Spec(bool, "raise it though nobody proves that the neighbour takes it"),
}


class State(NamedTuple):
    """What the MTUs of one plan have to agree on."""

    nics: dict[str, Nic]  # by name
    goal: dict[str, int]  # MTU at the end, by name
    order: list[str]  # names of those that move, as they do
    told: set[str]  # bonds whose ports do not agree


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """Writes from the port upwards where it is raised, from the top down where it is lowered."""
    by_name = {nic.ifname: nic for nic in facts.nics.values()}
    asked = [setting for setting in settings if "mtu" in setting.values]
    allowed = [setting for setting in asked if not _unproven(setting, facts, by_name)]
    goal = {nic.ifname: nic.mtu for nic in facts.nics.values()}
    moved = {facts.nics[setting.nic].ifname: int(setting.values["mtu"]) for setting in allowed}
    state = State(by_name, goal | moved, [name for name, mtu in moved.items() if by_name[name].mtu != mtu], set())
    for setting in asked:
        nic = facts.nics[setting.nic]
        if why := _unproven(setting, facts, by_name):
            yield skip(setting, f"{nic.ifname} mtu", why, OutcomeStatus.REFUSED)
        elif nic.mtu != setting.values["mtu"]:
            yield from _one(setting, nic, state)


def _unproven(setting: Setting, facts: HostFacts, by_name: dict[str, Nic]) -> str:
    """Why the MTU must not be raised; "" when it may, or is not raised."""
    nic, wanted = facts.nics[setting.nic], int(setting.values["mtu"])
    if wanted <= nic.mtu or setting.values.get("mtu_force") or "mtu_probe" in setting.values:
        return ""
    below = [by_name[name] for name in nic.lower if name in by_name]
    if below:
        least = min(below, key=lambda port: port.mtu)
        return "" if least.mtu >= wanted else f"{least.ifname} below it has {least.mtu}"
    heard = [one for one in facts.lldp.values() if (one.port_key or one.key) == nic.key]
    frames = [one.max_frame_bytes for one in heard if one.max_frame_bytes is not None]
    if frames and min(frames) >= wanted + FRAME:
        return ""
    said = f"announces frames of {min(frames)} bytes" if frames else "announces no frame size by LLDP"
    return f"the neighbour {said}, {wanted + FRAME} are needed: prove it with mtu_probe, or set mtu_force"


def _one(setting: Setting, nic: Nic, state: State) -> Iterable[Step]:
    wanted = int(setting.values["mtu"])
    chain = [nic]
    bond = state.nics.get(nic.master)
    if bond is not None and bond.type == "bond" and bond.mtu == nic.mtu:
        other = next((name for name in bond.lower if state.goal.get(name, wanted) != wanted), "")
        if other and bond.ifname not in state.told:
            state.told.add(bond.ifname)
            reason = f"{bond.ifname} keeps {bond.mtu}: {other} below it has {state.goal[other]}"
            yield impossible(setting, f"{bond.ifname} mtu", reason)
        if other and wanted < nic.mtu:
            return
        legs = [name for name in state.order if name in bond.lower]
        if not other and nic.ifname == legs[-1 if wanted > nic.mtu else 0]:
            chain.append(bond)  # raised with the last of its ports, lowered with the first
    for under in list(chain):
        chain += [above for above in state.nics.values() if _follows(above, under) and above.mtu == nic.mtu]
    yield from _writes(setting, nic, chain, wanted)


def _follows(above: Nic, under: Nic) -> bool:
    return above.type in _FOLLOW and under.ifname in above.lower


def _writes(setting: Setting, nic: Nic, chain: list[Nic], wanted: int) -> Iterable[Change]:
    """The write of each: of what follows a file by name, of the port by index; who proves it does so at the end."""
    ordered = chain if wanted > nic.mtu else chain[::-1]
    probe = str(setting.values.get("mtu_probe", "")) if wanted > nic.mtu else ""
    for one in ordered:
        is_last = one is ordered[-1]
        if is_last and probe:
            index = one.ifindex if one is nic else 0
            op: Request | FileWrite = Request("mtu", {"mtu": one.mtu}, {"mtu": wanted}, index, one.ifname, item=probe)
        elif one is nic:
            op = FileWrite("/sys/class/net/{ifname}/mtu", str(one.mtu), str(wanted), ifindex=one.ifindex)
        else:
            op = FileWrite(f"/sys/class/net/{one.ifname}/mtu", str(one.mtu), str(wanted))
        yield Change(
            knob="link",
            target=f"{one.ifname} mtu",
            op=op,
            blast=Blast.LINK,
            nic=setting.nic,
            policy=setting.policy,
            reason="as the policy says" if one is nic else f"follows {nic.ifname}",
        )


def project(facts: HostFacts, change: Change) -> HostFacts:
    """The facts after one of the changes."""
    ifname = change.target.removesuffix(" mtu")
    value = change.op.after if isinstance(change.op, FileWrite) else ""
    if isinstance(change.op, Request):
        value = str(change.op.after["mtu"])
    changed = [structs.replace(nic, mtu=int(value)) for nic in facts.nics.values() if nic.ifname == ifname]
    return facts.replace(changed)
