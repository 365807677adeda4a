"""Data centre bridging for RoCE: lossless priorities, shares of the link, trust in DSCP; never against the switch."""

from collections.abc import Iterable, Sequence
from functools import partial

from msgspec import structs

from tuners.about import About, Stage
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, impossible, skip
from wire.cpulist import parse_cpulist
from wire.facts import Dcb
from wire.lldp import TSA
from wire.policy import Blast, Change, OutcomeStatus, Request, Setting, Values

NAME = "dcb"
ABOUT = About(
    stage=Stage.DEVICE,
    what="lossless priorities (PFC), shares of the link (ETS), trust in DSCP",
    interface="dcbnl: rtnetlink GETDCB, SETDCB (DCB_CMD_IEEE_SET, IEEE_DEL)",
    unit="priorities, %, traffic classes",
    undo="the tables before, and the steering of the queues",
    blast=Blast.LINK,
    facts=("nic", "dcb", "lldp"),
    quirks="mlx5 trusts DSCP as soon as one is mapped; NICs whose firmware speaks DCBX take nothing from the host",
)
OFF = "off"


def _priorities(text: str) -> str:
    try:
        found = [] if text == OFF else parse_cpulist(text)
    except ValueError:
        found = [8]
    return "" if all(0 <= priority <= 7 for priority in found) else f"must be priorities such as 3 or 3,4, not {text!r}"


def _eight(text: str, high: int) -> str:
    words = text.split(",")
    good = len(words) == 8 and all(word.isascii() and word.isdigit() and int(word) <= high for word in words)
    return "" if good else f"must be eight numbers from 0 to {high} with commas, not {text[:40]!r}"


def _algorithms(text: str) -> str:
    words = text.split(",")
    good = len(words) == 8 and set(words) <= set(TSA.values())
    return "" if good else f"must be eight of {', '.join(TSA.values())} with commas, not {text[:40]!r}"


def _mapping(text: str) -> str:
    pairs = [entry.split(":") for entry in text.split(",")] if text != OFF else []
    good = all(len(pair) == 2 and all(word.isascii() and word.isdigit() for word in pair) for pair in pairs)
    good = good and all(int(dscp) < 64 and int(priority) < 8 for dscp, priority in pairs)
    good = good and len({int(pair[0]) for pair in pairs}) == len(pairs)
    return "" if good else f"must be DSCP:priority pairs such as 26:3,48:6, not {text[:40]!r}"


VALUES: dict[str, Spec] = {
    "pfc": Spec(str, "priorities that are lossless, or off", check=_priorities),
    "bandwidth": Spec(str, "per cent of each traffic class", check=partial(_eight, high=100)),
    "tsa": Spec(str, "algorithm of each traffic class", check=_algorithms),
    "prio_tc": Spec(str, "traffic class of each priority", check=partial(_eight, high=7)),
    "trust": Spec(str, "what sorts frames received", words=("dscp", "pcp", "dscp,pcp")),
    "dscp": Spec(str, "priority of each DSCP, or off", check=_mapping),
    "force": Spec(bool, "lossless priorities though the switch does not announce the same"),
}


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """One request per NIC whose tables differ."""
    known = {fact.key: fact for fact in facts.of(Dcb)}
    for setting in settings:
        fact, ifname = known.get(setting.nic), facts.nics[setting.nic].ifname
        if fact is None:
            yield skip(setting, ifname, "unsupported by the driver")
        elif "lld" in fact.dcbx:
            yield skip(setting, ifname, "the NIC's firmware negotiates it by DCBX: turn that off to set it here")
        else:
            yield from _one(setting, fact, facts)


def _one(setting: Setting, fact: Dcb, facts: HostFacts) -> Iterable[Step]:
    now, wanted = spell(fact), _wanted(setting.values)
    for name, why in sorted(_obstacles(setting, fact, facts, wanted).items()):
        wanted.pop(name, None)
        status = OutcomeStatus.REFUSED if name == "pfc" and "switch" in why else OutcomeStatus.UNSUPPORTED
        yield skip(setting, f"{fact.ifname} {name}", why, status)
    if {"bandwidth", "tsa"} & wanted.keys() and (wrong := _shares({**now, **wanted})):
        yield impossible(setting, f"{fact.ifname} bandwidth", wrong)
        return
    after: Values = {name: text for name, text in wanted.items() if now[name] != text}
    if after:
        before: Values = {name: now[name] for name in after}
        yield Change(
            knob=NAME,
            target=fact.ifname,
            op=Request("dcb", before, after, fact.ifindex, fact.ifname),
            blast=Blast.LINK,
            nic=setting.nic,
            policy=setting.policy,
            reason="as the policy says",
        )


def _wanted(values: Values) -> dict[str, str]:
    """The texts as the request has them, in normal form."""
    wanted = {name: "" if values[name] == OFF else str(values[name]) for name in values if name != "force"}
    if wanted.get("pfc"):
        wanted["pfc"] = ",".join(map(str, parse_cpulist(wanted["pfc"])))
    if wanted.get("dscp"):
        pairs = sorted((int(a), int(b)) for a, b in (entry.split(":") for entry in wanted["dscp"].split(",")))
        wanted["dscp"] = ",".join(f"{dscp}:{priority}" for dscp, priority in pairs)
    for name in {"bandwidth", "prio_tc"} & wanted.keys():
        wanted[name] = ",".join(str(int(word)) for word in wanted[name].split(","))
    return wanted


def _obstacles(setting: Setting, fact: Dcb, facts: HostFacts, wanted: dict[str, str]) -> dict[str, str]:
    """Why some of what is wanted cannot be, by name."""
    found = {name: "unsupported: the driver has no ETS" for name in ("bandwidth", "tsa", "prio_tc") if not fact.tsa}
    if not fact.trust:
        found["trust"] = "unsupported: the driver does not say what it trusts"
    if fact.pfc is None:
        found["pfc"] = "unsupported: the driver has no PFC"
    elif why := _lossy(setting, fact, facts, wanted.get("pfc", "")):
        found["pfc"] = why
    return {name: why for name, why in found.items() if name in wanted}


def _lossy(setting: Setting, fact: Dcb, facts: HostFacts, text: str) -> str:
    """Why these priorities must not be lossless; "" when they may."""
    wanted = {int(priority) for priority in text.split(",") if priority}
    if fact.pfc_capable is not None and len(wanted) > fact.pfc_capable:
        return f"unsupported: it can have {fact.pfc_capable} lossless priorities at once"
    if wanted <= set(fact.pfc or []) or setting.values.get("force"):
        return ""
    heard = [one for one in facts.lldp.values() if (one.port_key or one.key) == fact.key]
    theirs = [set(one.pfc) for one in heard if one.pfc is not None]
    if not theirs:
        return "the switch announces no PFC by LLDP: lossless priorities on one side alone stop traffic (force: true)"
    if any(each != wanted for each in theirs):
        said = ", ".join(map(str, sorted(theirs[0]))) or "none"
        return f"the switch has {said} lossless, not {text}: make both the same (force: true)"
    return ""


def _shares(texts: dict[str, str]) -> str:
    """Why the shares cannot be; "" when they can: those of classes with ETS make 100 %."""
    algorithms, numbers = texts["tsa"].split(","), texts["bandwidth"].split(",")
    shared = [int(number) for number, word in zip(numbers, algorithms, strict=False) if word == "ets" and number]
    return f"the classes with ets have {sum(shared)} % together, not 100" if shared and sum(shared) != 100 else ""


def spell(fact: Dcb) -> dict[str, str]:
    """The fact as the request has it."""
    return {
        "pfc": ",".join(map(str, fact.pfc or [])),
        "bandwidth": ",".join(map(str, fact.bandwidth)),
        "tsa": ",".join(fact.tsa),
        "prio_tc": ",".join(map(str, fact.prio_tc)),
        "trust": ",".join(fact.trust),
        "dscp": ",".join(f"{dscp}:{priority}" for dscp, priority in sorted(fact.dscp.items())),
    }


def project(facts: HostFacts, change: Change) -> HostFacts:
    """The facts after one of its changes."""
    op = change.op
    fact = next(one for one in facts.of(Dcb) if one.key == change.nic)
    if not isinstance(op, Request):
        return facts
    texts = {name: [word for word in str(text).split(",") if word] for name, text in op.after.items()}
    made: dict[str, object] = {name: texts[name] for name in ("tsa", "trust") if name in texts}
    for name in {"pfc", "bandwidth", "prio_tc"} & texts.keys():
        made[name] = [int(word) for word in texts[name]]
    if "dscp" in texts:
        made["dscp"] = {int(dscp): int(priority) for dscp, priority in (pair.split(":") for pair in texts["dscp"])}
    return facts.replace([structs.replace(fact, **made)])
