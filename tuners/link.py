"""What a port does on its cable: speed, autonegotiation, FEC, pause, EEE, MTU. Nothing here saves power unasked."""

import re
from collections.abc import Callable, Iterable, Sequence

from msgspec import structs

from tuners import mtu
from tuners.about import About, Stage
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, impossible, skip
from wire.facts import Ethtool, Nic
from wire.policy import Blast, Change, OutcomeStatus, Request, Setting, Values

NAME = "link"
ABOUT = About(
    stage=Stage.DEVICE,
    what="speed, autonegotiation, FEC, pause, EEE, MTU",
    interface="ethtool netlink LINKMODES_SET, FEC_SET, PAUSE_SET, EEE_SET; rtnetlink SETLINK, /sys/class/net/X/mtu",
    unit="Mbit/s, bytes, words",
    undo="the modes, encodings and sizes before, and the steering of the queues",
    blast=Blast.LINK,
    facts=("nic", "ethtool", "lldp"),
    quirks="the link trains anew for up to 20 s; an MTU restarts the interface on most drivers; a fixed speed needs a "
    "partner that is fixed to it too",
)
FECS = {"auto": "auto", "off": "None", "rs": "RS", "baser": "BASER", "llrs": "LLRS"}  # our word -> the kernel's
_SPEED = re.compile(r"(\d+)base")


def _reason(text: str) -> str:
    return "" if 0 < len(text.strip()) <= 200 else "must be a reason of 1 to 200 letters"


VALUES: dict[str, Spec] = {
    "speed": Spec(int, "Mbit/s", 10, 1_600_000, ("max",)),
    "autoneg": Spec(bool, "speed and duplex are agreed on with the partner"),
    "fec": Spec(str, "forward error correction", words=tuple(FECS)),
    "pause_autoneg": Spec(bool, "flow control is agreed on with the partner"),
    "pause_rx": Spec(bool, "stops sending when the partner says so"),
    "pause_tx": Spec(bool, "tells the partner to stop when buffers are full"),
    "eee": Spec(bool, "energy efficient Ethernet"),
    "why": Spec(str, "why power is saved: a reason", check=_reason),
    **mtu.VALUES,
}


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """A request for each of modes, FEC, pause and EEE that differs; then the MTUs, of all NICs together."""
    for setting in settings:
        nic, fact = facts.nics[setting.nic], facts.ethtool.get(setting.nic)
        if fact is not None:
            for part in (_modes, _fec, _pause, _eee):
                yield from part(setting, nic, fact)
        elif setting.values.keys() - mtu.VALUES.keys():
            yield skip(setting, nic.ifname, "unsupported by the driver")
    yield from mtu.plan(settings, facts)


def _request(setting: Setting, fact: Ethtool, message: str, values: tuple[Values, Values], reason: str) -> Change:
    return Change(
        knob=NAME,
        target=f"{fact.ifname} {message}",
        op=Request(message, *values, fact.ifindex, fact.ifname),
        blast=Blast.LINK,
        nic=setting.nic,
        policy=setting.policy,
        reason=reason,
    )


def _refused(setting: Setting, target: str, reason: str) -> Step:
    return skip(setting, target, reason, OutcomeStatus.REFUSED)


def speeds(modes: Iterable[str]) -> list[int]:
    """Mbit/s of each link mode among the names."""
    return [int(match[1]) for name in modes if (match := _SPEED.match(name))]


def _modes(setting: Setting, nic: Nic, fact: Ethtool) -> Iterable[Step]:
    if not {"speed", "autoneg"} & setting.values.keys():
        return
    target = f"{fact.ifname} speed"
    autoneg = setting.values.get("autoneg", nic.autoneg)
    speed = setting.values.get("speed", 0)
    best = max(speeds(fact.supported), default=0)
    wanted = best if speed == "max" else int(speed)
    now = nic.speed_mbps or max(speeds(fact.advertised), default=0)
    if nic.autoneg is None:
        yield skip(setting, target, "unsupported by the driver")
    elif "speed" in setting.values and best and wanted not in speeds(fact.supported):
        yield impossible(setting, target, f"it has no mode of {wanted} Mbit/s")
    elif autoneg and not best:
        yield skip(setting, target, "the driver names no modes to negotiate")
    elif 0 < wanted < now and "why" not in setting.values:
        yield _refused(setting, target, f"{wanted} is slower than {now} Mbit/s: only with why")
    elif not autoneg and not (wanted or nic.speed_mbps):
        yield impossible(setting, target, "without autonegotiation a speed must be named")
    elif not autoneg and not nic.carrier:
        yield skip(setting, target, "without a link nobody could tell what came of a fixed speed")
    else:
        yield from _mode_change(setting, nic, fact, _mode(nic, fact, bool(autoneg), speed))


def _mode(nic: Nic, fact: Ethtool, autoneg: bool, speed: int | str | bool) -> str:
    """The text of the modes as they are to be."""
    if not autoneg:
        wanted = max(speeds(fact.supported), default=0) if speed == "max" else int(speed)
        return _spell(False, (wanted or nic.speed_mbps, "full"), fact.advertised)
    others = {name for name in fact.advertised if not _SPEED.match(name)}
    others |= {name for name in fact.supported if name == "Autoneg"}
    if not speed and nic.autoneg:
        return spell(nic, fact)
    wanted_modes = {name for name in fact.supported if _SPEED.match(name) and (speed in (0, "max", *speeds([name])))}
    return _spell(True, (None, ""), sorted(others | wanted_modes))


def spell(nic: Nic, fact: Ethtool) -> str:
    """The modes as the request has them."""
    return _spell(bool(nic.autoneg), (nic.speed_mbps, nic.duplex), fact.advertised)


def _spell(autoneg: bool, fixed: tuple[int | None, str], advertised: Iterable[str]) -> str:
    how = "auto" if autoneg else f"fixed {fixed[0] or 'unknown'} {fixed[1] or 'unknown'}"
    return f"{how}: {','.join(sorted(advertised))}"


def _mode_change(setting: Setting, nic: Nic, fact: Ethtool, wanted: str) -> Iterable[Change]:
    now = spell(nic, fact)
    if now != wanted:
        reason = str(setting.values.get("why", "as the policy says"))
        yield _request(setting, fact, "linkmodes", ({"mode": now}, {"mode": wanted}), reason)


def _fec(setting: Setting, _nic: Nic, fact: Ethtool) -> Iterable[Step]:
    if "fec" not in setting.values:
        return
    wanted = FECS[str(setting.values["fec"])]
    offered = [name for name in fact.supported if name in FECS.values()]
    if not fact.fec:
        yield skip(setting, f"{fact.ifname} fec", "unsupported: the driver says nothing of FEC")
    elif offered and wanted != "auto" and wanted not in offered:
        yield impossible(setting, f"{fact.ifname} fec", f"it offers {', '.join(sorted(offered))}")
    elif fact.fec != [wanted] and not (wanted == "auto" and fact.fec[0] == "auto"):
        values: tuple[Values, Values] = ({"modes": ",".join(fact.fec)}, {"modes": wanted})
        yield _request(setting, fact, "fec", values, "as the policy says")


def _pause(setting: Setting, _nic: Nic, fact: Ethtool) -> Iterable[Step]:
    named = [name for name in ("autoneg", "rx", "tx") if f"pause_{name}" in setting.values]
    if named and not fact.pause:
        yield skip(setting, f"{fact.ifname} pause", "unsupported by the driver")
        return
    is_agreed = setting.values.get("pause_autoneg", fact.pause.get("autoneg", False))
    if is_agreed and set(named) - {"autoneg"}:
        why = "the partner has a say: set pause_autoneg to false to fix it"
        yield skip(setting, f"{fact.ifname} pause", why)
        named = [name for name in named if name == "autoneg"]
    wanted: Values = {name: bool(setting.values[f"pause_{name}"]) for name in named}
    after = {name: value for name, value in wanted.items() if fact.pause.get(name, False) != value}
    if after:
        before: Values = {name: fact.pause.get(name, False) for name in after}
        yield _request(setting, fact, "pause", (before, after), "as the policy says")


def _eee(setting: Setting, _nic: Nic, fact: Ethtool) -> Iterable[Step]:
    if "eee" not in setting.values:
        return
    target, wanted = f"{fact.ifname} eee", bool(setting.values["eee"])
    now = fact.eee.get("enabled")
    if wanted and "why" not in setting.values:
        yield _refused(setting, target, "it saves power and costs latency: only with why")
    elif now is None:
        if wanted:
            yield skip(setting, target, "unsupported by the driver")
    elif now != wanted:
        reason = str(setting.values.get("why", "as the policy says"))
        yield _request(setting, fact, "eee", ({"enabled": now}, {"enabled": wanted}), reason)


def project(facts: HostFacts, change: Change) -> HostFacts:
    """The facts after one of its changes."""
    op = change.op
    if not isinstance(op, Request) or op.message == "mtu":
        return mtu.project(facts, change)
    return _PROJECTED[op.message](facts, change.nic, op.after)


def _with_modes(facts: HostFacts, key: str, after: Values) -> HostFacts:
    nic, fact = facts.nics[key], facts.ethtool[key]
    how, _, listed = str(after["mode"]).partition(": ")
    fact = structs.replace(fact, advertised=[name for name in listed.split(",") if name])
    if how == "auto":
        is_slower = nic.speed_mbps is not None and nic.speed_mbps not in speeds(fact.advertised)
        speed = max(speeds(fact.advertised), default=None) if is_slower else nic.speed_mbps
        return facts.replace([structs.replace(nic, autoneg=True, speed_mbps=speed), fact])
    _, text, duplex = how.split()
    speed = int(text) if text.isdigit() else None
    return facts.replace([structs.replace(nic, autoneg=False, speed_mbps=speed, duplex=duplex), fact])


def _with_fec(facts: HostFacts, key: str, after: Values) -> HostFacts:
    return facts.replace([structs.replace(facts.ethtool[key], fec=str(after["modes"]).split(","))])


def _with_pause(facts: HostFacts, key: str, after: Values) -> HostFacts:
    fact = facts.ethtool[key]
    pause = {**fact.pause, **{name: bool(value) for name, value in after.items()}}
    return facts.replace([structs.replace(fact, pause=pause)])


def _with_eee(facts: HostFacts, key: str, after: Values) -> HostFacts:
    fact = facts.ethtool[key]
    eee = {**fact.eee, **{name: bool(value) for name, value in after.items()}}
    return facts.replace([structs.replace(fact, eee=eee)])


_PROJECTED: dict[str, Callable[[HostFacts, str, Values], HostFacts]] = {
    "linkmodes": _with_modes,
    "fec": _with_fec,
    "pause": _with_pause,
    "eee": _with_eee,
}
