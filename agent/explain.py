"""A plan told in full: what each step is for, what it can break, what it needs, and how it is undone."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TypeVar

from agent import blast, show
from agent.guard import Path
from agent.work import batches
from tuners.about import Stage
from tuners.findings import findings
from tuners.hostfacts import HostFacts
from tuners.planner import LATER, project
from tuners.registry import BY_NAME
from wire.policy import Change, FileWrite, IrqBan, Op, Plan, Request, Skip, Value

K = TypeVar("K")

_STAGES = {
    Stage.DEVICE: "what there is",
    Stage.SHAPE: "queues, rings and offloads",
    Stage.PLACE: "which CPU does the work, and how",
    Stage.PROGRAM: "what runs in the packet path",
}
_MOST_STEPS = 8  # of one kind that are listed


def plan(made: Plan, facts: HostFacts, path: Path) -> str:
    """Every step in the order in which a transaction makes it, by stage, NIC and knob; what each class needs, once."""
    lines = [_summary(made)]
    for stage in Stage:
        steps = [change for change in made.changes if BY_NAME[change.knob].ABOUT.stage is stage]
        lines += ["", f"{stage}: {_STAGES[stage]}"] if steps else []
        for batch in batches(steps, path):
            for _, group in groupby(batch, _kind):
                lines += ["", *_steps(list(group), facts)]
    return "\n".join([*lines, *_dangers(made), *_left_out(made.skips)])


def _summary(made: Plan) -> str:
    counts = Counter(change.blast for change in made.changes)
    told = ", ".join(f"{counts[one]} {one}" for one in blast.NEEDS if counts[one])
    return f"{_count(len(made.changes), 'step')}: {told}" if told else "nothing to change"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _kind(change: Change) -> tuple[str, str, str, str]:
    return change.knob, change.nic, change.reason, change.blast


def _steps(changes: Sequence[Change], facts: HostFacts) -> Iterator[str]:
    """Steps that are alike: what they have in common once, then each."""
    first = changes[0]
    about, nic = BY_NAME[first.knob].ABOUT, facts.nics.get(first.nic)
    yield f"  {first.knob} of {nic.ifname if nic else first.nic or 'the host'}: {about.what}"
    yield f"    why     {first.reason or 'the policy says so'}"
    yield f"    danger  {first.blast}"
    yield f"    undo    {about.undo}"
    width = max(len(change.target) for change in changes[:_MOST_STEPS])
    yield from (f"      {change.target.ljust(width)}  {step(change.op)}" for change in changes[:_MOST_STEPS])
    if len(changes) > _MOST_STEPS:
        yield f"      and {len(changes) - _MOST_STEPS} more"


def _dangers(made: Plan) -> list[str]:
    there = {change.blast for change in made.changes}
    rows = [(f"  {one}", f"{needs.breaks}; needs {blast.requires(one)}") for one, needs in blast.NEEDS.items()]
    rows = [row for row in rows if row[0].strip() in there]
    width = max((len(name) for name, _ in rows), default=0)
    return ["", "dangers:", *(f"{name.ljust(width)}  {text}" for name, text in rows)] if rows else []


def _left_out(skips: Sequence[Skip]) -> list[str]:
    later, reasons = _joined((skip.target, skip.knob) for skip in skips if skip.reason == LATER), list[str]()
    others = _joined(((skip.knob, skip.reason), skip.target) for skip in skips if skip.reason != LATER)
    for (knob, reason), targets in others.items():
        reasons.append(f"  {knob} of {', '.join(targets)}: {reason}")
    told = [f"  {target}: {', '.join(knobs)}" for target, knobs in later.items()]
    return [
        *(["", "planned when the queues are there:", *told] if told else []),
        *(["", "left out:", *reasons] if reasons else []),
    ]


def _joined(pairs: Iterable[tuple[K, str]]) -> dict[K, list[str]]:
    found: dict[K, list[str]] = {}
    for key, text in pairs:
        found.setdefault(key, []).append(text)
    return found


def step(op: Op) -> str:
    """From what to what, for people; of a request only what changes."""
    match op:
        case Request():
            names = [name for name in op.after if op.before.get(name) != op.after[name]]
            return ", ".join(f"{name} {_word(op.before.get(name, ''))} → {_word(op.after[name])}" for name in names)
        case FileWrite():
            return f"{op.before or 'none'} → {op.after or 'none'}"
        case IrqBan():
            return f"{len(op.before)} → {len(op.after)} interrupts are left alone"


def _word(value: Value) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value == "" else str(value)


# -- before and after --------------------------------------------------------------------------------------------------


def difference(made: Plan, facts: HostFacts) -> str:
    """The NICs as they are and as they would be, and which findings would go, come and stay."""
    after = project(facts, made)
    recreated = {key for key in facts.nics if key in facts.queues and key not in after.queues}
    was, is_now = ({(one.rule, one.key): one for one in findings(view, {})} for view in (facts, after))
    gone = [one for name, one in was.items() if name not in is_now]
    parts = [
        ("mended:", [one for one in gone if one.key not in recreated]),
        ("known when the queues are there:", [one for one in gone if one.key in recreated]),
        ("new:", [one for name, one in is_now.items() if name not in was]),
        ("stays:", [one for name, one in is_now.items() if name in was]),
    ]
    rows = [
        (nic.ifname, *map(_arrow, _cells(nic.key, facts), _cells(nic.key, after)))
        for nic in facts.nics.values()
        if nic.bus
    ]
    lines = [show.table(("NIC", "QUEUES", "RX RING", "TX RING", "INTERRUPTS ON CPUS"), rows)] if rows else []
    for title, found in parts:
        lines += ["", title, *(f"  {one.target}: {one.text}" for one in found)] if found else []
    return "\n".join(lines)


def _cells(key: str, facts: HostFacts) -> tuple[str, ...]:
    fact, irq = facts.ethtool.get(key), facts.irq.get(key)
    channels, rings = (fact.channels, fact.rings) if fact else ({}, {})
    counts = [str(channels[name]) for name in ("combined", "rx", "tx") if channels.get(name)]
    ring = (str(rings.get(name, "-")) for name in ("rx", "tx"))
    return "/".join(counts) or "-", *ring, show.placed(irq) if irq else "-"


def _arrow(before: str, after: str) -> str:
    return before if before == after else f"{before} → {'anew' if after == '-' else after}"
