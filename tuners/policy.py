"""What people want, in YAML: which hosts and NICs, which preset, which knobs. Every mistake has a line and a column."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import yaml

from tuners import qdisc, select
from tuners.about import Scope
from tuners.hostfacts import HostFacts
from tuners.knob import expected, problem
from tuners.presets import PRESETS
from tuners.registry import BY_NAME
from tuners.select import Condition, SelectError, meant
from wire.measure import Keep, Measure, Objective
from wire.policy import Blast, Mode, Setting, Value, Values

MAX_BYTES = 64 * 1024
MAX_DEPTH = 8


class Problem(NamedTuple):
    """One mistake, where it stands (both from 1)."""

    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.message}"


class PolicyError(ValueError):
    """The policy cannot be used; `problems` says why, all at once."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(str(each) for each in problems))
        self.problems = problems


class Knob(msgspec.Struct, kw_only=True):
    """One knob's values; None where the policy's own mode and allowance stand."""

    values: Values = {}
    mode: Mode | None = None
    allow: list[Blast] | None = None


class Policy(msgspec.Struct, kw_only=True):
    """One policy; without `nics` it is for every physical NIC of the hosts that `match`."""

    name: str
    priority: int = 0  # the highest wins, per value
    match: list[Condition] = []
    nics: list[Condition] = []
    preset: str = ""
    knobs: dict[str, Knob] = {}
    mode: Mode = Mode.ENFORCE
    allow: list[Blast] = []
    confirm_within_s: int = 60
    measure: Measure | None = None  # of all its knobs


def parse_policy(text: str) -> Policy:
    """The policy of a YAML text; raises PolicyError with every problem found."""
    reader = _Reader()
    policy = reader.policy(text)
    if policy is None or reader.problems:
        raise PolicyError(sorted(reader.problems))
    return policy


def lint(text: str) -> list[Problem]:
    """Every problem of a YAML text, by line; none when it is a policy."""
    reader = _Reader()
    reader.policy(text)
    return sorted(reader.problems)


def matches(policy: Policy, labels: Mapping[str, str], facts: HostFacts) -> bool:
    """True when the policy is for this host."""
    return select.host_fits(policy.match, labels, facts)


def chosen(policy: Policy, facts: HostFacts) -> list[str]:
    """Keys of the NICs of a matching host that the policy is for."""
    if not policy.nics:
        return [key for key, nic in facts.nics.items() if nic.type == "physical"]
    return [key for key, nic in facts.nics.items() if select.nic_fits(policy.nics, nic, facts.ethtool.get(key))]


def why_nothing(policy: Policy, hosts: Iterable[tuple[Mapping[str, str], HostFacts]]) -> str:
    """Why the policy would tune nothing on these hosts (labels and facts of each); "" when it would."""
    matching = [facts for labels, facts in hosts if matches(policy, labels, facts)]
    if not matching:
        return f"{policy.name}: no host matches {_all_of(policy.match)}"
    of_host = any(BY_NAME[word].ABOUT.scope is Scope.HOST for word, _ in _knobs(policy))
    if not of_host and not any(chosen(policy, facts) for facts in matching):
        return f"{policy.name}: {len(matching)} hosts match, but none has a NIC with {_all_of(policy.nics)}"
    return ""


def _all_of(conditions: Sequence[Condition]) -> str:
    return " and ".join(str(each) for each in conditions) or "type=physical"


def compile_settings(policies: Sequence[Policy], labels: Mapping[str, str], facts: HostFacts) -> list[Setting]:
    """One setting per knob and NIC, sorted; of several policies the highest priority wins per value, then the name."""
    merged: dict[tuple[str, str], Setting] = {}
    lowest_first = sorted(sorted(policies, key=lambda each: each.name, reverse=True), key=lambda each: each.priority)
    for policy in lowest_first:
        if not matches(policy, labels, facts):
            continue
        nics = chosen(policy, facts)
        for word, knob in _knobs(policy):
            for nic in [""] if BY_NAME[word].ABOUT.scope is Scope.HOST else nics:
                below = merged.get((word, nic))
                merged[word, nic] = Setting(
                    knob=word,
                    nic=nic,
                    values={**(below.values if below else {}), **knob.values},
                    mode=knob.mode or policy.mode,
                    policy=policy.name,
                    allow=policy.allow if knob.allow is None else knob.allow,
                    measure=policy.measure,
                )
    return [merged[place] for place in sorted(merged) if merged[place].values]


def _knobs(policy: Policy) -> Iterator[tuple[str, Knob]]:
    """The preset's knobs with the policy's own over them."""
    preset = PRESETS.get(policy.preset, {})
    for word in sorted({*preset, *policy.knobs}):
        own = policy.knobs.get(word, Knob())
        yield word, Knob(values={**preset.get(word, {}), **own.values}, mode=own.mode, allow=own.allow)


def _rss(values: Values) -> str:
    others = [name for name in ("queues", "skip", "reserve") if name in values]
    return f"weights say it all: take {others[0]} away" if "weights" in values and others else ""


def _ntuple(values: Values) -> str:
    return "rules need locations: the places of the table that are the policy's" if "locations" not in values else ""


def _napi(values: Values) -> str:
    if values.get("defer_hard_irqs") and values.get("gro_flush_timeout_ns") == 0:
        return "defer_hard_irqs has no effect with gro_flush_timeout_ns: 0"
    if values.get("pin_threads") and values.get("threaded") is False:
        return "pin_threads has no threads with threaded: false"
    return ""


def _rps(values: Values) -> str:
    needs = values.get("accelerated") and not values.get("flow_entries")
    return "accelerated needs flow_entries" if needs else ""


_CONTRADICTIONS: dict[str, Callable[[Values], str]] = {
    "rss": _rss,
    "ntuple": _ntuple,
    "napi": _napi,
    "rps": _rps,
    "qdisc": qdisc.contradiction,
}


def _contradiction(knob: str, values: Values) -> str:
    """Why these values cannot stand together; "" when they can."""
    if knob == "irq_affinity" and values.get("placement") == "list" and "cpus" not in values:
        return "placement: list needs cpus"
    for way in ("rx", "tx"):
        fixed = [name for name in (f"{way}_usecs", f"{way}_frames") if name in values]
        if knob == "coalesce" and values.get(f"adaptive_{way}") and fixed:
            return f"{fixed[0]} has no effect while adaptive_{way} is true: set adaptive_{way}: false"
    return _CONTRADICTIONS[knob](values) if knob in _CONTRADICTIONS else ""


_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?")
_INTEGER = re.compile(r"[+-]?[0-9]{1,15}")
_BOOLS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_SHAPES: dict[type[yaml.Node], str] = {yaml.MappingNode: "a mapping", yaml.SequenceNode: "a list"}
Pairs = dict[str, tuple[yaml.Node, yaml.Node]]


class _Reader:
    """Walks one YAML document and notes what is wrong; goes on after a mistake, so that all are reported at once."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._fields: dict[str, Callable[[yaml.Node], object]] = {
            "name": self._name,
            "priority": lambda node: self._whole(node, -1_000_000, 1_000_000),
            "match": lambda node: self._conditions(node, of_nic=False),
            "nics": lambda node: self._conditions(node, of_nic=True),
            "preset": lambda node: self._word(node, "preset", PRESETS),
            "knobs": self._knobs,
            "mode": self._mode,
            "allow": self._allow,
            "confirm_within_s": lambda node: self._whole(node, 5, 3600),
            "measure": self._measure,
        }

    def policy(self, text: str) -> Policy | None:
        """The policy as far as it can be read; None when it is no document at all."""
        root = self._root(text)
        if root is None:
            return None
        pairs = self._mapping(root, "a policy", self._fields)
        read = {word: self._fields[word](node) for word, (_, node) in pairs.items()}
        if "name" not in pairs:
            self._say(root, "name is missing")
        if not {"preset", "knobs"} & set(pairs):
            self._say(root, "neither preset nor knobs: nothing would be tuned")
        if self.problems:
            return None
        policy = msgspec.convert(read, Policy)
        self._together(policy, pairs)
        return policy

    def _say(self, node: yaml.Node, message: str, shift: int = 0) -> None:
        self.problems.append(Problem(node.start_mark.line + 1, node.start_mark.column + 1 + shift, message))

    def _root(self, text: str) -> yaml.Node | None:
        """The document's root when it is one small plain YAML document, without aliases, anchors and tags."""
        size = len(text.encode("utf-8", "surrogatepass"))
        if size > MAX_BYTES:
            self.problems.append(Problem(1, 1, f"{size} bytes is over the limit of {MAX_BYTES} for a policy"))
            return None
        try:
            if not self._plain(text):
                return None
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            self.problems.append(Problem(line, column, f"not YAML: {error.problem or error.context}"))
            return None
        except yaml.reader.ReaderError as error:
            before = text[: error.position].split("\n")
            self.problems.append(Problem(len(before), len(before[-1]) + 1, f"not YAML: {error.reason}"))
            return None
        if root is None:
            self.problems.append(Problem(1, 1, "the document is empty"))
        return root

    def _plain(self, text: str) -> bool:
        """False, with the problem noted, at the first event that this language does not have."""
        depth = documents = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            documents += isinstance(event, yaml.DocumentStartEvent)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            wrong = {
                f"nested over {MAX_DEPTH} deep": depth > MAX_DEPTH,
                "a second document: one policy per file": documents > 1,
                "aliases and anchors are not taken: write the values out": getattr(event, "anchor", None) is not None,
                "tags are not taken: write the plain value": getattr(event, "tag", None) is not None,
            }
            for message in (message for message, is_wrong in wrong.items() if is_wrong):
                mark = event.start_mark
                line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
                self.problems.append(Problem(line, column, message))
                return False
        return True

    def _mapping(self, node: yaml.Node, what: str, known: Iterable[str]) -> Pairs:
        """The known keys with their nodes; notes the others, and keys that stand twice."""
        pairs: Pairs = {}
        if not isinstance(node, yaml.MappingNode):
            self._say(node, f"{what} must be a mapping, not {_SHAPES.get(type(node), 'a single value')}")
            return pairs
        for key, value in node.value:
            word = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
            if word not in known:
                self._say(key, f'{what} has no "{word[:40]}"{meant(word, known)}')
            elif word in pairs:
                self._say(key, f'"{word}" stands twice, first in line {pairs[word][0].start_mark.line + 1}')
            else:
                pairs[word] = (key, value)
        return pairs

    def _text(self, node: yaml.Node, wanted: str) -> str | None:
        if isinstance(node, yaml.ScalarNode):
            return str(node.value)
        self._say(node, f"must be {wanted}, not {_SHAPES.get(type(node), 'a single value')}")
        return None

    def _name(self, node: yaml.Node) -> str:
        text = self._text(node, "a name")
        if text is not None and not _NAME.fullmatch(text):
            self._say(node, "must be 1 to 64 letters, digits, dots, dashes and underscores")
        return text or ""

    def _whole(self, node: yaml.Node, low: int, high: int) -> int:
        wanted = f"a whole number from {low} to {high}"
        text = self._text(node, wanted)
        if text is not None and not (_INTEGER.fullmatch(text) and low <= int(text) <= high):
            self._say(node, f'must be {wanted}, not "{text[:40]}"')
            return low
        return int(text or low)

    def _word(self, node: yaml.Node, what: str, known: Iterable[str]) -> str:
        words = list(known)
        text = self._text(node, f"a {what}")
        if text is not None and text not in words:
            self._say(node, f'no {what} "{text[:40]}"{meant(text, words)} ({", ".join(words)})')
        return text or ""

    def _items(self, node: yaml.Node) -> list[yaml.Node]:
        """The items of a list; a single value is a list of one."""
        return list(node.value) if isinstance(node, yaml.SequenceNode) else [node]

    def _conditions(self, node: yaml.Node, of_nic: bool) -> list[Condition]:
        found: list[Condition] = []
        for item in self._items(node):
            text = self._text(item, "a condition such as labels.role=edge")
            quoted = isinstance(item, yaml.ScalarNode) and item.style in ("'", '"')
            try:
                found += [] if text is None else [select.parse_condition(text, of_nic)]
            except SelectError as error:
                self._say(item, str(error), error.column - 1 + quoted)
        return found

    def _mode(self, node: yaml.Node) -> str:
        return self._word(node, "mode", [mode.value for mode in Mode])

    def _measure(self, node: yaml.Node) -> dict[str, object]:
        fields: dict[str, Callable[[yaml.Node], object]] = {
            "objective": lambda body: self._word(body, "objective", list(Objective)),
            "window_s": lambda body: self._whole(body, 1, 600),
            "windows": lambda body: self._whole(body, 3, 20),
            "keep": lambda body: self._word(body, "rule", list(Keep)),
            "probe": lambda body: self._text(body, "an address or HOST:PORT"),
        }
        return {word: fields[word](body) for word, (_, body) in self._mapping(node, "measure", fields).items()}

    def _allow(self, node: yaml.Node) -> list[str]:
        return [self._word(item, "blast class", [blast.value for blast in Blast]) for item in self._items(node)]

    def _knobs(self, node: yaml.Node) -> dict[str, Knob]:
        pairs = self._mapping(node, "knobs", BY_NAME)
        return {word: self._knob(word, body) for word, (_, body) in pairs.items()}

    def _knob(self, word: str, node: yaml.Node) -> Knob:
        specs = BY_NAME[word].VALUES
        pairs = self._mapping(node, word, [*specs, "mode", "allow"])
        values = {name: self._value(word, name, body) for name, (_, body) in pairs.items() if name in specs}
        knob = Knob(values={name: value for name, value in values.items() if value is not None})
        if "allow" in pairs:
            knob.allow = [Blast(each) for each in self._allow(pairs["allow"][1]) if each in list(Blast)]
        if "mode" in pairs and "mode" not in specs:
            mode = self._mode(pairs["mode"][1])
            knob.mode = Mode(mode) if mode in list(Mode) else None
        elif "mode" in pairs:
            self._both_modes(word, knob, pairs["mode"][1])
        if isinstance(node, yaml.MappingNode) and not node.value:
            self._say(node, f"{word} has no value")
        return knob

    def _value(self, word: str, name: str, node: yaml.Node) -> Value | None:
        """The value by its spec, None when it is none (noted)."""
        spec = BY_NAME[word].VALUES[name]
        if name == "mode":
            return None
        text = self._text(node, expected(spec))
        if text is None:
            return None
        value: Value = text
        if spec.kind is int and _INTEGER.fullmatch(text):
            value = int(text)
        elif spec.kind is bool and getattr(node, "style", None) is None:
            value = _BOOLS.get(text.lower(), text)
        if reason := problem(spec, value):
            self._say(node, f"{word}.{name} {reason}")
            return None
        return value

    def _both_modes(self, word: str, knob: Knob, node: yaml.Node) -> None:
        """xps and rps have a mode of their own; its words are no policy mode's, so `mode: [off, warn]` says both."""
        own = BY_NAME[word].VALUES["mode"].words
        for item in self._items(node):
            text = self._word(item, f"{word} mode", [*own, *(mode.value for mode in Mode)])
            if text in own and "mode" not in knob.values:
                knob.values["mode"] = text
            elif text in list(Mode) and knob.mode is None:
                knob.mode = Mode(text)
            elif text in own or text in list(Mode):
                self._say(item, f'"{text}" is a second mode of the same kind')

    def _together(self, policy: Policy, pairs: Pairs) -> None:
        """Notes values that contradict each other, the preset's included."""
        keys = {str(key.value): key for key, _ in pairs["knobs"][1].value} if "knobs" in pairs else {}
        for word, knob in _knobs(policy):
            if reason := _contradiction(word, knob.values):
                self._say(keys[word], f"{word}: {reason}")
