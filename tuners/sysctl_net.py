"""The kernel's network settings, by a list: set, or only ever raised, with respect for who sets them at boot."""

from collections.abc import Iterable, Sequence
from functools import partial

from msgspec import structs

from tuners.about import About, Scope, Stage
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, skip
from wire.facts import Sysctl
from wire.policy import Blast, Change, FileWrite, Mode, Setting
from wire.sysctls import AVAILABLE, KEYS, Key, path

NAME = "sysctl_net"
ABOUT = About(
    stage=Stage.PLACE,
    what="the kernel's network settings",
    interface="/proc/sys/net",
    unit="each its own: the table below",
    undo="the value before",
    blast=Blast.STARVATION,
    scope=Scope.HOST,
    facts=("sysctl",),
    quirks="many are the network namespace's own; nf_conntrack_max is there once connections are tracked",
)
_RAISE = ("=>", "at_least")
_GREEDY = {"net.core.netdev_budget": 1000, "net.core.netdev_budget_usecs": 20_000}  # above, softirqs starve the rest


def _split(text: str) -> tuple[bool, list[str]]:
    """Whether a value is only to be raised, and its words."""
    for operator in _RAISE:
        if text.strip().startswith(operator):
            return True, text.strip().removeprefix(operator).split()
    return False, text.split()


def _wrong(name: str, text: str) -> str:
    """Why `text` is no value of the key; "" when it is one."""
    key = KEYS[name]
    is_raise, words = _split(text)
    if key.words:
        return "" if text in key.words else f"must be {' or '.join(key.words)}, not {text[:40]!r}"
    if len(words) != key.numbers or not all(word.isascii() and word.isdigit() and len(word) < 12 for word in words):
        return f"must be {_shape(key)}, not {text[:40]!r}"
    numbers = [int(word) for word in words]
    if not all(key.low <= number <= key.high for number in numbers) or numbers != sorted(numbers):
        return f"must be {_shape(key)}, not {text[:40]!r}"
    return "a range of ports cannot be raised" if is_raise and key.numbers == 2 else ""


def _shape(key: Key) -> str:
    span = f"from {key.low} to {key.high}"
    if key.numbers == 1:
        return f'a whole number {span} ({key.unit}), "=> N" to raise it only'
    return f"{key.numbers} whole numbers {span}, ascending ({key.unit})"


VALUES: dict[str, Spec] = {
    name: Spec(str, " or ".join(key.words) or _shape(key), check=partial(_wrong, name)) for name, key in KEYS.items()
}


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """One write per key that differs; a key that a file of sysctl.d sets is that file's unless the mode is enforce."""
    fact = next(iter(facts.of(Sysctl)), None)
    for setting in settings:
        for name, value in sorted(setting.values.items()):
            yield from _one(setting, fact or Sysctl(), name, str(value))


def _one(setting: Setting, fact: Sysctl, name: str, value: str) -> Iterable[Step]:
    current, owner = fact.values.get(name), fact.owners.get(name)
    if current is None:
        yield skip(setting, name, "unsupported: the kernel does not have it here")
        return
    wanted = _wanted(value, current)
    if wanted == current:
        return
    if owner and owner.value != wanted and setting.mode is not Mode.ENFORCE:
        yield skip(setting, name, f"{owner.path} sets it to {owner.value}: its owner wins unless the mode is enforce")
    elif name.endswith("tcp_congestion_control") and wanted not in (have := fact.values.get(AVAILABLE, "").split()):
        yield skip(setting, name, f"the kernel has {', '.join(have) or 'none'} loaded: load tcp_{wanted} at boot")
    else:
        yield Change(
            knob=NAME,
            target=name,
            op=FileWrite(path(name), current, wanted),
            blast=_blast(name, wanted),
            policy=setting.policy,
            reason=f"over {owner.path}, which sets {owner.value}" if owner else "as the policy says",
        )


def _wanted(value: str, current: str) -> str:
    """The text that the file is to have: of a raise the larger of each number."""
    is_raise, words = _split(value)
    have = current.split()
    if is_raise and len(have) == len(words) and all(word.lstrip("-").isdigit() for word in have):
        words = [str(max(int(word), int(now))) for word, now in zip(words, have, strict=True)]
    return " ".join(words)


def _blast(name: str, wanted: str) -> Blast:
    return Blast.STARVATION if name in _GREEDY and int(wanted) > _GREEDY[name] else Blast.SAFE


def project(facts: HostFacts, change: Change) -> HostFacts:
    """The facts after one of its changes."""
    op = change.op
    fact = next(iter(facts.of(Sysctl)), Sysctl())
    if not isinstance(op, FileWrite):
        return facts
    return facts.replace([structs.replace(fact, values={**fact.values, change.target: op.after})])
