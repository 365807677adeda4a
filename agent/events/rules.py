"""The configuration's `[[events.rule]]`: which events are kept, dropped, or handed to a hook. Pure."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from agent.config import Rule
from agent.events.damping import NEVER_HELD, RANK, Budget
from wire.report import Event


class Verdict(NamedTuple):
    """What becomes of an event: kept or not, its hooks in order, and the rate of the rule that keeps it."""

    keep: bool = True
    hooks: tuple[str, ...] = ()
    budget: Budget | None = None


def judge(rules: Sequence[Rule], event: Event) -> Verdict:
    """The rules in order, until one that keeps or drops; what the agent itself does can be hooked and not dropped."""
    hooks: dict[str, None] = {}
    own = family(event) in NEVER_HELD
    for rule in rules:
        if not matches(rule, event):
            continue
        if rule.action == "drop":
            if own:
                continue
            return Verdict(keep=False, hooks=tuple(hooks))
        if rule.action == "keep":
            budget = Budget(max(1.0, rule.rate), rule.rate / 60) if rule.rate else None
            return Verdict(hooks=tuple(hooks), budget=budget)
        if family(event) != "hook":  # a hook that fails must not start hooks
            hooks[rule.hook] = None
    return Verdict(hooks=tuple(hooks))


def matches(rule: Rule, event: Event) -> bool:
    """Whether all conditions of the rule hold for the event."""
    if RANK[event.severity] < RANK[rule.severity]:
        return False
    globs = [(event.kind, rule.kind), (event.key, rule.key), (_text(event, "ifname"), rule.ifname)]
    globs += [(_text(event, name), glob) for name, glob in rule.data.items()]
    return all(fnmatchcase(text, glob) for text, glob in globs)


def family(event: Event) -> str:
    """The first word of its kind."""
    return event.kind.partition(".")[0]


def _text(event: Event, name: str) -> str:
    value = event.data.get(name)
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
