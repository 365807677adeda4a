"""Rules by which the NIC itself steers or drops what it receives, in places of its table that the policy owns."""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import structs

from tuners import rss
from tuners.about import About, Stage
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, impossible, skip
from wire.cpulist import format_cpulist
from wire.facts import Ethtool, Ntuple, NtupleRule, Rss
from wire.flowrule import Flow, FlowRule, FlowRuleError, format_rule, may_match, parse_rule, parse_rules
from wire.policy import Blast, Change, Request, Setting

NAME = "ntuple"
ABOUT = About(
    stage=Stage.PLACE,
    what="flow rules in the NIC",
    interface="ethtool ioctl SRXCLSRLINS, SRXCLSRLDEL",
    unit="rules",
    undo="the rules before at the places that it owns; all others are never touched",
    blast=Blast.BLACKHOLE,
    facts=("nic", "ethtool", "ntuple", "rss"),
    quirks="needs `offloads: {ntuple: true}`, and turning that off deletes the rules; ice shares the table with aRFS",
)
FEATURE = "rx-ntuple-filter"
_MOST = 1 << 20
_SSH = 22
_UNREADABLE = "other "


def _rules(text: str) -> str:
    try:
        rules = parse_rules(text)
    except FlowRuleError as error:
        return f"is no list of rules: {error}"
    everybody = [Flow(remote, None, "", _SSH) for remote in ("192.0.2.1", "2001:db8::1")]
    for rule in rules:
        from_all = takes_away(rule) and not rule.src_ip and rule.src_port is None
        if from_all and any(may_match(rule, flow) for flow in everybody):
            return f'has "{format_rule(rule)}", which would take SSH away: say which source or which other port'
    return ""


def _locations(text: str) -> str:
    return "" if places(text) else "must be the first and the last place, such as 512-543"


VALUES: dict[str, Spec] = {
    "rules": Spec(str, "rules with semicolons between them, first match first", check=_rules),
    "locations": Spec(str, "the places that are the policy's, such as 512-543", check=_locations),
}


def places(text: str) -> range:
    """The places of "512-543"; empty for what is none."""
    first, _, last = text.partition("-")
    if not all(word.isascii() and word.isdigit() and len(word) < 8 for word in (first, last or first)):
        return range(0)
    return range(int(first), min(int(last or first), _MOST) + 1)


def takes_away(rule: FlowRule) -> bool:
    """True when what matches does not reach this host any more."""
    return rule.action in ("drop", "vf")


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """Requests for the places whose rule differs: those that go first, then the others in their order."""
    tables = {fact.key: fact for fact in facts.of(Ntuple)}
    spreads = {fact.key: fact for fact in facts.of(Rss)}
    for setting in settings:
        fact, ifname = tables.get(setting.nic), facts.nics[setting.nic].ifname
        if fact is None:
            yield skip(setting, ifname, "unsupported by the driver")
        elif reason := _is_off(facts.ethtool.get(setting.nic)):
            yield skip(setting, ifname, reason)
        else:
            yield from _one(setting, fact, spreads.get(setting.nic))


def _is_off(fact: Ethtool | None) -> str:
    if fact is None or fact.features.get(FEATURE, True):
        return ""
    return f"unsupported: {FEATURE} is off" if FEATURE in fact.features_fixed else "needs offloads: {ntuple: true}"


def _one(setting: Setting, fact: Ntuple, spread: Rss | None) -> Iterable[Step]:
    own = places(str(setting.values.get("locations", "")))
    rules = parse_rules(str(setting.values.get("rules", "")))
    if reason := _refused(own, rules, fact):
        yield impossible(setting, fact.ifname, reason)
        return
    wanted: dict[int, str] = {}
    for place, rule in zip(own, rules, strict=False):
        resolved, reason = _resolve(rule, spread)
        if reason:
            yield impossible(setting, f"{fact.ifname} rule {place}", f"{format_rule(rule)!r}: {reason}")
            return
        wanted[place] = format_rule(resolved)
    yield from _changes(
        setting, fact, {rule.location: rule.rule for rule in fact.rules if rule.location in own}, wanted
    )


def _refused(own: range, rules: Sequence[FlowRule], fact: Ntuple) -> str:
    if not own:
        return "locations does not say which places are the policy's"
    if fact.size and own.stop > fact.size:
        return f"locations ends at {own.stop - 1}, and the table at {fact.size - 1}"
    if len(rules) > len(own):
        return f"{len(rules)} rules do not fit into {len(own)} places"
    strange = [rule.location for rule in fact.rules if rule.location in own and rule.rule.startswith(_UNREADABLE)]
    return f"place {strange[0]} has a rule that could not be put back: choose other locations" if strange else ""


def _resolve(rule: FlowRule, spread: Rss | None) -> tuple[FlowRule, str]:
    """The rule as the NIC takes it, and why it cannot be."""
    if rule.action == "queue" and spread and spread.queues and rule.number >= spread.queues:
        return rule, f"there is no queue {rule.number} of {spread.queues}"
    if rule.action != "reserved":
        return rule, ""
    free = rss.reserved(spread) if spread else []
    if not free:
        return rule, "no queue is reserved: rss: {reserve: 1}"
    if len(free) == 1:
        return rule._replace(action="queue", number=free[0]), ""
    queues = format_cpulist(free)
    if spread and queues in {context.queues for context in spread.contexts or []}:
        return rule._replace(action="context", queues=queues), ""
    return rule, f"there is no RSS context of the reserved queues {queues}: rss: {{reserve: 1}} needs none"


def _changes(setting: Setting, fact: Ntuple, before: Mapping[int, str], wanted: Mapping[int, str]) -> Iterable[Change]:
    differing = [place for place in sorted({*before, *wanted}) if before.get(place) != wanted.get(place)]
    for place in sorted(differing, key=lambda place: (place in wanted, place)):
        after = wanted.get(place, "")
        yield Change(
            knob=NAME,
            target=f"{fact.ifname} rule {place}",
            op=Request(
                message=NAME,
                before={"rule": before.get(place, "")},
                after={"rule": after},
                ifindex=fact.ifindex,
                ifname=fact.ifname,
                item=str(place),
            ),
            blast=Blast.BLACKHOLE if after and takes_away(parse_rule(after)) else Blast.SAFE,
            nic=setting.nic,
            policy=setting.policy,
            reason=after or "no longer in the policy",
        )


def project(facts: HostFacts, change: Change) -> HostFacts:
    """The facts after one of its requests."""
    op = change.op
    if not isinstance(op, Request):
        return facts
    (fact,) = (fact for fact in facts.of(Ntuple) if fact.key == change.nic)
    rules = {rule.location: rule.rule for rule in fact.rules} | {int(op.item): str(op.after["rule"])}
    kept = [NtupleRule(location=place, rule=rule) for place, rule in sorted(rules.items()) if rule]
    return facts.replace([structs.replace(fact, rules=kept)])
