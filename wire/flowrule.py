"""A rule that steers received packets in the NIC, as one line: "tcp4 src-ip 192.0.2.0/24 dst-port 22 queue 3".

A flow type, what must match (addresses with a prefix length, whole ports), and where the packet goes: `queue N`,
`context 6-7` (the RSS context of these queues), `vf N`, `reserved` (the queues that the `rss` knob keeps free; in
policies only) or `drop`.
"""

import ipaddress
from collections.abc import Sequence
from typing import Any, NamedTuple

from wire.cpulist import format_cpulist, parse_cpulist

PORTED = ("tcp4", "udp4", "sctp4", "tcp6", "udp6", "sctp6")
FLOWS = (*PORTED, "ip4", "ip6", "ether")
NUMBERED = ("queue", "vf")
BARE_ACTIONS = ("drop", "reserved")
ETHER_IP = {0x0800: 4, 0x86DD: 6}
ARP = 0x0806
_MAX = 1 << 32


class FlowRule(NamedTuple):
    """One rule; "" and None match anything. `number` is the queue's or the function's."""

    flow: str  # of FLOWS
    src_ip: str = ""  # "192.0.2.0/24"
    dst_ip: str = ""
    src_port: int | None = None
    dst_port: int | None = None
    proto: int | None = None  # of ip4 and ip6 the protocol, of ether the type
    action: str = "queue"
    number: int = 0
    queues: str = ""  # of the context, as a list of numbers


class FlowRuleError(ValueError):
    """The text is no rule; the message says why, in one line."""


def format_rule(rule: FlowRule) -> str:
    """The rule's one spelling."""
    fields = {"src-ip": rule.src_ip, "dst-ip": rule.dst_ip}
    words = [rule.flow, *(f"{name} {text}" for name, text in fields.items() if text)]
    numbers = {"src-port": rule.src_port, "dst-port": rule.dst_port}
    words += [f"{name} {number}" for name, number in numbers.items() if number is not None]
    if rule.proto is not None:
        words.append(f"proto {rule.proto:#06x}" if rule.flow == "ether" else f"proto {rule.proto}")
    target = {"queue": f" {rule.number}", "vf": f" {rule.number}", "context": f" {rule.queues}"}
    return " ".join([*words, rule.action + target.get(rule.action, "")])


def parse_rule(text: str) -> FlowRule:
    """The rule of one line; raises FlowRuleError."""
    words = text.split()
    if not words or words[0] not in FLOWS:
        raise FlowRuleError(f"a rule begins with one of {', '.join(FLOWS)}, not {text[:40]!r}")
    flow, rest = words[0], words[1:]
    if rest and rest[-1] in BARE_ACTIONS:
        return FlowRule(flow, action=rest[-1])._replace(**_matches(flow, rest[:-1]))
    action, target = rest[-2:] if len(rest) > 1 else ("", "")
    if action in NUMBERED:
        rule = FlowRule(flow, action=action, number=_number(target, _MAX))
    elif action == "context":
        rule = FlowRule(flow, action=action, queues=_queues(target))
    else:
        raise FlowRuleError(f"{text[:60]!r} does not end with queue N, context N-M, vf N, reserved or drop")
    return rule._replace(**_matches(flow, rest[:-2]))


def parse_rules(text: str) -> list[FlowRule]:
    """Rules with semicolons between them; raises FlowRuleError, also for one that stands twice."""
    rules = [parse_rule(part) for part in text.split(";") if part.strip()]
    if not rules and text.strip():
        raise FlowRuleError("no rule between the semicolons")
    matching = [format_rule(rule._replace(action="drop")).removesuffix(" drop") for rule in rules]
    if twice := [what for what in matching if matching.count(what) > 1]:
        raise FlowRuleError(f"two rules for {twice[0]!r}")
    return rules


def _queues(text: str) -> str:
    try:
        queues = parse_cpulist(text)
    except ValueError:
        queues = []
    if not queues:
        raise FlowRuleError(f"{text[:40]!r} is no list of queues")
    return format_cpulist(queues)


def _matches(flow: str, words: Sequence[str]) -> dict[str, Any]:
    if len(words) % 2:
        raise FlowRuleError(f"{words[-1]!r} has no value, or is one too many")
    found: dict[str, Any] = {}
    for name, value in zip(words[::2], words[1::2], strict=True):
        if name not in _fields(flow):
            raise FlowRuleError(f"{flow} has no {name!r}; it has {', '.join(_fields(flow))}")
        field = name.replace("-", "_")
        if field in found:
            raise FlowRuleError(f"{name} stands twice")
        limit = 1 << 16 if flow == "ether" or name != "proto" else 1 << 8
        found[field] = _network(value, flow) if name.endswith("ip") else _number(value, limit)
    return found


def _fields(flow: str) -> tuple[str, ...]:
    if flow == "ether":
        return ("proto",)
    return ("src-ip", "dst-ip", *(("src-port", "dst-port") if flow in PORTED else ("proto",)))


def _number(text: str, limit: int) -> int:
    try:
        number = int(text, 16 if text.startswith("0x") else 10)
    except ValueError:
        number = -1
    if not 0 <= number < limit:
        raise FlowRuleError(f"{text[:40]!r} is no whole number from 0 to {limit - 1}")
    return number


def _network(text: str, flow: str) -> str:
    """The normal form: no host bits, the prefix length always there."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise FlowRuleError(f"{text[:60]!r} is no IP address or network") from None
    if f"{network.version}" != flow[-1]:
        raise FlowRuleError(f"{text[:60]!r} is no address of {flow}")
    if not network.prefixlen:
        raise FlowRuleError(f"{text[:60]!r} matches every address: leave it out")
    return str(network)


class Flow(NamedTuple):
    """A TCP connection as this host receives it; a port of None is unknown, an address of "" any."""

    remote: str
    remote_port: int | None
    local: str
    local_port: int | None


def may_match(rule: FlowRule, flow: Flow) -> bool:
    """True unless it is certain that no packet of the connection matches the rule; ARP counts as part of it."""
    version = ipaddress.ip_address(flow.remote or flow.local).version
    if rule.flow == "ether":
        return rule.proto in (None, ARP if version == 4 else None) or ETHER_IP.get(rule.proto or 0) == version
    if rule.flow[-1] != str(version) or not rule.flow.startswith(("tcp", "ip")) or rule.proto not in (None, 6):
        return False
    ends = ((rule.src_ip, flow.remote), (rule.dst_ip, flow.local))
    ports = ((rule.src_port, flow.remote_port), (rule.dst_port, flow.local_port))
    return all(_covers(network, address) for network, address in ends) and all(
        wanted is None or port is None or wanted == port for wanted, port in ports
    )


def _covers(network: str, address: str) -> bool:
    return not network or not address or ipaddress.ip_address(address) in ipaddress.ip_network(network)
