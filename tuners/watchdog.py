"""Whether a hardware watchdog resets the host when it hangs, or when its agent is lost for long."""

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from msgspec import structs

from tuners.about import About, Scope, Stage
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, impossible, skip, whole
from wire.facts import Owner, Watchdog
from wire.policy import Change, Request, Setting, Values

NAME = "watchdog"


def _no_pattern(text: str) -> str:
    return "" if text.strip() and len(text) <= 200 else "must be a pattern such as i6300ESB*"


ABOUT = About(
    stage=Stage.PROGRAM,
    what="a hardware watchdog fed while the agent is well",
    interface="/dev/watchdogN (WDIOC_SETTIMEOUT), a keeper process",
    unit="s",
    undo="disarmed by the magic word, with the timeout before",
    scope=Scope.HOST,
    facts=("watchdog", "owners"),
    quirks="the host is reset when the agent is lost for 30 s and the timeout; one that cannot be disarmed is refused",
)
VALUES: dict[str, Spec] = {
    "device": Spec(str, "a pattern of its identity, key or name: i6300ESB*", check=_no_pattern),
    "feed": Spec(bool, "armed, and fed"),
    "timeout_s": Spec(int, "seconds without food until the reset", 10, 3600),
}


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """One request for the first watchdog of that name, when it is not as the policy says."""
    for setting in settings:
        pattern = str(setting.values.get("device", "*"))
        found = [one for one in facts.of(Watchdog) if _named(one, pattern)]
        if "feed" not in setting.values:
            yield impossible(setting, "host", "feed is not set")
        elif not found:
            yield skip(setting, "host", f"no watchdog is named {pattern}")
        else:
            best = sorted(found, key=lambda one: (not one.fed, bool(one.running), one.name))[0]
            yield from _one(setting, best, facts)


def _named(watchdog: Watchdog, pattern: str) -> bool:
    return any(fnmatchcase(text, pattern) for text in (watchdog.identity, watchdog.key, watchdog.name))


def _one(setting: Setting, watchdog: Watchdog, facts: HostFacts) -> Iterator[Step]:
    feed = bool(setting.values["feed"])
    timeout_s = whole(setting.values, "timeout_s", watchdog.timeout_s or 60) if feed else watchdog.timeout_s or 0
    if not feed and not watchdog.fed:
        return
    if feed and (reason := _why_not(watchdog, timeout_s, facts)):
        yield impossible(setting, watchdog.name, reason)
    elif (watchdog.fed, watchdog.timeout_s) != (feed, timeout_s):
        before: Values = {"feed": watchdog.fed, "timeout_s": watchdog.timeout_s or 0}
        after: Values = {"feed": feed, "timeout_s": timeout_s}
        yield Change(
            knob=NAME,
            target=watchdog.name,
            op=Request(message=NAME, before=before, after=after, item=watchdog.name),
            policy=setting.policy,
            reason="as the policy says",
        )


def _why_not(watchdog: Watchdog, timeout_s: int, facts: HostFacts) -> str:
    if watchdog.running and not watchdog.fed:
        return f"somebody else feeds it: {_owner(facts)}"
    if watchdog.nowayout or watchdog.nowayout is None:
        return "it cannot be disarmed again (nowayout): load its driver with nowayout=0"
    if watchdog.timeout_s is None or watchdog.running is None:
        return "the kernel does not tell its state (CONFIG_WATCHDOG_SYSFS)"
    low, high = watchdog.min_timeout_s or 1, watchdog.max_timeout_s or timeout_s
    if not low <= timeout_s <= high:
        return f"timeout_s={timeout_s} is not between its {low} and {high} s"
    return ""


def _owner(facts: HostFacts) -> str:
    for owner in facts.of(Owner):
        for claim in owner.claims:
            if claim.what == "watchdog timeout":
                return f"{owner.name}'s RuntimeWatchdogSec={claim.value} in {claim.source}"
    return "who is not known"


def project(facts: HostFacts, change: Change) -> HostFacts:
    """The watchdog armed and fed, or disarmed."""
    op = change.op
    assert isinstance(op, Request)  # noqa: S101 - the only op of this knob
    one = next(one for one in facts.of(Watchdog) if one.name == op.item)
    feed = bool(op.after["feed"])
    return facts.replace([structs.replace(one, fed=feed, running=feed, timeout_s=whole(op.after, "timeout_s"))])
