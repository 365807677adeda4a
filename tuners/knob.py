"""What every knob module is made of: its stage, the table of its values, and the steps it yields."""

from collections.abc import Callable
from typing import NamedTuple

from wire.cpulist import format_cpumask, parse_cpulist
from wire.facts import Ethtool, Queues
from wire.policy import Blast, Change, FileWrite, OutcomeStatus, Request, Setting, Skip, Value, Values

Step = Change | Skip


class Spec(NamedTuple):
    """What one value of a knob may be: a bool, one of `words`, an int from `low` to `high`, or a text.

    A text is a CPU list, unless `check` says why a text is none of the knob's ("" when it is one).
    """

    kind: type[bool] | type[int] | type[str]
    text: str
    low: int = 0
    high: int = 0
    words: tuple[str, ...] = ()
    check: Callable[[str], str] | None = None


def expected(spec: Spec) -> str:
    """What the value may be, for people: `1 to 4096, or "max"`."""
    words = " or ".join(f'"{word}"' for word in spec.words)
    if spec.kind is int:
        span = f"a whole number from {spec.low} to {spec.high}"
        return f"{span}, or {words}" if words else span
    if spec.check is not None:
        return spec.text
    return "true or false" if spec.kind is bool else words or "a CPU list such as 0-3,8"


def problem(spec: Spec, value: object) -> str:
    """Why `value` is none of the spec's values, in words; "" when it is one."""
    if isinstance(value, bool):
        return "" if spec.kind is bool else f"must be {expected(spec)}, not {str(value).lower()}"
    if isinstance(value, int):
        fits = spec.kind is int and spec.low <= value <= spec.high
        return "" if fits else f"must be {expected(spec)}, not {value}"
    if isinstance(value, str) and value in spec.words:
        return ""
    if isinstance(value, str) and spec.check is not None:
        return spec.check(value)
    if isinstance(value, str) and spec.kind is str and not spec.words and _is_cpulist(value):
        return ""
    shown = f'"{value[:40]}"' if isinstance(value, str) else type(value).__name__
    return f"must be {expected(spec)}, not {shown}"


def _is_cpulist(text: str) -> bool:
    try:
        return bool(parse_cpulist(text))
    except ValueError:
        return False


def skip(setting: Setting, target: str, reason: str, status: OutcomeStatus = OutcomeStatus.UNSUPPORTED) -> Skip:
    """The setting (or the part of it that `target` names) comes to nothing, and why."""
    return Skip(knob=setting.knob, target=target, reason=reason, nic=setting.nic, policy=setting.policy, status=status)


def impossible(setting: Setting, target: str, reason: str) -> Skip:
    """The setting asks for what cannot be on this machine: its outcome is "failed"."""
    return skip(setting, target, reason, OutcomeStatus.FAILED)


def whole(values: Values | dict[str, Value], name: str, default: int = 0) -> int:
    """The int of that name, else `default`."""
    value = values.get(name, default)
    return value if isinstance(value, int) else default


_BLAST = {"coalesce": Blast.SAFE}  # the other requests reset queues or restart the interface on some drivers


def ethtool_change(setting: Setting, fact: Ethtool, before: Values, after: Values, reason: str) -> Change:
    """One ethtool set request with the values of `after`; the knob is the message except for offloads."""
    return Change(
        knob=setting.knob,
        target=fact.ifname,
        op=Request(
            message="features" if setting.knob == "offloads" else setting.knob,
            before=before,
            after=after,
            ifindex=fact.ifindex,
            ifname=fact.ifname,
        ),
        blast=_BLAST.get(setting.knob, Blast.LINK),
        nic=setting.nic,
        policy=setting.policy,
        reason=reason,
    )


def queue_write(setting: Setting, fact: Queues, file: str, texts: tuple[str, str], reason: str) -> Change:
    """Write one file of a queue ("rx-0/rps_flow_cnt"); `texts` are before and after."""
    return Change(
        knob=setting.knob,
        target=f"{fact.ifname} {file.partition('/')[0]}",
        op=FileWrite(f"/sys/class/net/{{ifname}}/queues/{file}", *texts, ifindex=fact.ifindex),
        nic=setting.nic,
        policy=setting.policy,
        reason=reason,
    )


def queue_mask(setting: Setting, fact: Queues, file: str, cpus: tuple[set[int], set[int]], reason: str) -> Change:
    """Write a CPU mask of a queue ("tx-0/xps_cpus"); `cpus` are before and after."""
    before, after = cpus
    return queue_write(setting, fact, file, (format_cpumask(before), format_cpumask(after)), reason)
