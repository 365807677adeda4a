"""Which frames a NIC stamps with the time of its own clock; whoever steers that clock sets it himself."""

from collections.abc import Iterable, Sequence

from msgspec import structs

from tuners.about import About, Stage
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, impossible, skip
from tuners.rounding import filter_stands
from wire.facts import Timestamping
from wire.policy import Blast, Change, Request, Setting, Values

NAME = "timestamping"
ABOUT = About(
    stage=Stage.PLACE,
    what="which frames are stamped by the NIC's clock",
    interface="SIOCGHWTSTAMP, SIOCSHWTSTAMP",
    unit="words of net_tstamp.h",
    undo="what was stamped before",
    blast=Blast.LINK,
    facts=("nic", "clock"),
    quirks="drivers stamp more than was asked for (82580 and later all frames); mlx5 opens its queues anew for all "
    "received frames",
)
VALUES: dict[str, Spec] = {
    "tx": Spec(str, "frames sent", words=("off", "on", "onestep-sync", "onestep-p2p")),
    "rx": Spec(
        str,
        "frames received",
        words=("none", "all", "ptpv1-l4-event", "ptpv2-l4-event", "ptpv2-l2-event", "ptpv2-event", "ntp-all"),
    ),
}


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """One request per NIC that stamps otherwise."""
    known = {fact.key: fact for fact in facts.of(Timestamping)}
    for setting in settings:
        ifname, fact = facts.nics[setting.nic].ifname, known.get(setting.nic)
        if fact is None or not (fact.tx_type and fact.rx_filter):
            yield skip(setting, ifname, "unsupported by the driver")
        else:
            yield from _one(setting, fact, facts.nics[setting.nic].ifindex)


def _one(setting: Setting, fact: Timestamping, ifindex: int) -> Iterable[Step]:
    before: Values = {}
    after: Values = {}
    for name, current, offered in (("tx", fact.tx_type, fact.tx), ("rx", fact.rx_filter, fact.rx)):
        wanted = str(setting.values.get(name, current))
        if filter_stands(current, wanted) if name == "rx" else current == wanted:
            continue
        if offered and not any(filter_stands(each, wanted) for each in offered if each != "some"):
            yield impossible(setting, f"{fact.ifname} {name}", f"it offers {', '.join(offered)}, not {wanted}")
        else:
            before[name], after[name] = current, wanted
    if after and fact.owner:
        yield skip(setting, fact.ifname, f"{fact.owner} steers its clock ptp{fact.phc}, and sets this itself")
    elif after:
        yield Change(
            knob=NAME,
            target=fact.ifname,
            op=Request("hwtstamp", before, after, ifindex, fact.ifname),
            blast=Blast.LINK,
            nic=setting.nic,
            policy=setting.policy,
            reason="as the policy says",
        )


def project(facts: HostFacts, change: Change) -> HostFacts:
    """The facts after one of its changes."""
    op = change.op
    fact = next(one for one in facts.of(Timestamping) if one.key == change.nic)
    if not isinstance(op, Request):
        return facts
    made = {"tx": "tx_type", "rx": "rx_filter"}
    return facts.replace([structs.replace(fact, **{made[name]: str(value) for name, value in op.after.items()})])
