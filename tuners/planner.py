"""Settings and facts in, an ordered plan out: pure, deterministic, empty when the machine is as the settings say."""

from collections.abc import Iterable, Sequence

from tuners import auto, ntuple, offloads, quirks
from tuners.about import Scope, Stage
from tuners.hostfacts import HostFacts
from tuners.knob import Step, impossible, problem, skip
from tuners.owners import Others
from tuners.registry import ALL, BY_NAME
from wire.policy import Change, Mode, OutcomeStatus, Plan, Setting, Skip

LATER = "planned after the queues changed"
ALWAYS = ("dmi", "owners", "softnet", "sysctl")  # collectors of every plan: the kernel for quirks, who else is at work


def plan(settings: Sequence[Setting], facts: HostFacts, stage: Stage | None = None) -> Plan:
    """What to change, in order, and what comes to nothing with its reason; only knobs of `stage` when it is given.

    Each knob is planned over the facts as the knobs before it leave them, so that one table of CPUs serves
    interrupts, XPS and RPS; settings in mode warn are planned but change nothing for the knobs after them.
    """
    made = Plan()
    sound = _sound(settings, facts, made.skips)
    others = Others(facts)
    pending: dict[str, Stage] = {}
    for tuner in ALL:
        if stage in (None, tuner.ABOUT.stage):
            mine = [setting for setting in sound if setting.knob == tuner.NAME]
            waits = [setting for setting in mine if pending.get(setting.nic, tuner.ABOUT.stage) != tuner.ABOUT.stage]
            made.skips += [_later(setting, facts) for setting in waits]
            ready = [setting for setting in mine if setting not in waits]
            changes = others.settle(_changes(tuner.plan(ready, facts), made.skips), ready, made.skips)
            made.changes += changes
            effective = _effective(changes, ready)
            for change in effective:
                facts = tuner.project(facts, change)
                if tuner.ABOUT.recreates:
                    pending.setdefault(change.nic, tuner.ABOUT.stage)
    return made


def project(facts: HostFacts, plan: Plan) -> HostFacts:
    """The facts after the plan; a NIC whose queues were recreated has no queue and interrupt facts until a read."""
    for change in plan.changes:
        facts = BY_NAME[change.knob].project(facts, change)
    return facts


def collectors(knobs: Iterable[str]) -> list[str]:
    """The collectors whose facts a plan of these knobs needs, sorted; an unknown knob needs none."""
    needed = {name for knob in knobs if knob in BY_NAME for name in BY_NAME[knob].ABOUT.facts}
    return sorted({*needed, *ALWAYS}) if needed else []


def _sound(settings: Sequence[Setting], facts: HostFacts, skips: list[Skip]) -> list[Setting]:
    """Settings a tuner can rely on, by knob and NIC; of two for the same the first stands."""
    known: dict[tuple[str, str], Setting] = {}
    for setting in sorted(settings, key=lambda setting: (setting.knob, setting.nic)):
        if reason := _unsound(setting, facts):
            skips.append(impossible(setting, _target(setting, facts), reason))
        elif reason := quirks.refused(setting, facts):
            skips.append(skip(setting, _target(setting, facts), reason))
        elif (setting.knob, setting.nic) in known:
            skips.append(impossible(setting, _target(setting, facts), "is set twice; the first stands"))
        else:
            known[setting.knob, setting.nic] = setting
    for knob, nic in [place for place in known if place[0] in auto.OWNS and (auto.NAME, place[1]) in known]:
        setting = known.pop((knob, nic))
        skips.append(skip(setting, _target(setting, facts), "auto chooses it"))
    for knob, nic in [place for place in known if place[0] == ntuple.NAME]:
        other = known.get((offloads.NAME, nic))
        if other is not None and offloads.takes_rules_away(other):
            del known[other.knob, nic]
            skips.append(impossible(other, _target(other, facts), f"it turns off the rules that {knob} is about"))
    return list(known.values())


def _unsound(setting: Setting, facts: HostFacts) -> str:
    tuner = BY_NAME.get(setting.knob)
    if tuner is None:
        return f"this version has no knob {setting.knob!r}"
    if tuner.ABOUT.scope is Scope.HOST and setting.nic:
        return f"{setting.knob} is the host's, not a NIC's"
    if tuner.ABOUT.scope is Scope.NIC and setting.nic not in facts.nics:
        return "no such NIC on this host"
    for name, value in sorted(setting.values.items()):
        if name not in tuner.VALUES:
            return f"this version has no value {setting.knob}.{name}"
        if reason := problem(tuner.VALUES[name], value):
            return f"{name} {reason}"
    return ""


def _target(setting: Setting, facts: HostFacts) -> str:
    nic = facts.nics.get(setting.nic)
    return nic.ifname if nic else setting.nic or "host"


def _later(setting: Setting, facts: HostFacts) -> Skip:
    return skip(setting, _target(setting, facts), LATER, OutcomeStatus.DRIFTED)


def _changes(steps: Iterable[Step], skips: list[Skip]) -> list[Change]:
    """The changes among the steps; the skips join `skips`."""
    changes: list[Change] = []
    for step in steps:
        if isinstance(step, Skip):
            skips.append(step)
        else:
            changes.append(step)
    return changes


def _effective(changes: Sequence[Change], settings: Sequence[Setting]) -> list[Change]:
    """Those that would be made: a setting in mode warn changes nothing."""
    warned = {setting.nic for setting in settings if setting.mode is Mode.WARN}
    return [change for change in changes if change.nic not in warned]
