"""What our XDP programs on one NIC are to do, as flat values; the text of access lists, and its one spelling."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from wire.cpulist import format_cpulist, parse_cpulist

PROGRAMS = ("count", "acl", "ratelimit", "quic-steer")  # in the order in which a packet meets them
PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "icmp6": 58, "sctp": 132}
_WITH_PORTS = ("tcp", "udp", "sctp")
MOST_RULES = 4096
MOST_PER_PREFIX = 16  # with those of the prefixes around it
ANY_PORT = (0, 65535)
_RULE = re.compile(r"(allow|deny)\s+(\S+)(?:\s+([a-z0-9]+)(?:/(\d{1,5})(?:-(\d{1,5}))?)?)?")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Every value and what it is where it does not matter: nothing of ours is on the NIC.
NOTHING: dict[str, str | int | bool] = {
    "programs": "",
    "mode": "",  # "native", "generic"
    "stale_s": 0,
    "acl": "",
    "acl_default": "",
    "rate_pps": 0,
    "rate_burst": 0,
    "quic_port": 0,
    "quic_to": "",
    "quic_cpus": "",
    "quic_cid_len": 0,
    "quic_cid_byte": 0,
}
OF = {  # whose a value is; the others belong to all
    "acl": ("acl", "acl_default"),
    "ratelimit": ("rate_pps", "rate_burst"),
    "quic-steer": ("quic_port", "quic_to", "quic_cpus", "quic_cid_len", "quic_cid_byte"),
}


class Rule(NamedTuple):
    """Packets from `source` to these destination ports of this host; protocol 0 is any."""

    allow: bool
    source: Network
    protocol: int = 0
    low: int = 0
    high: int = 65535

    @property
    def width(self) -> tuple[int, int, bool]:
        """Narrow rules come first, then those that deny."""
        return (self.high - self.low, not self.protocol, self.allow)


def parse_acl(text: str) -> list[Rule]:
    """The rules of "deny 10.8.0.0/26, allow 10.0.0.0/8 tcp/22", in their one order; raises ValueError in one line."""
    rules = [_rule(part.strip()) for part in text.split(",") if part.strip()]
    if len(rules) > MOST_RULES:
        raise ValueError(f"{len(rules)} rules are over the limit of {MOST_RULES}")
    found: dict[tuple[Network, int, int, int], Rule] = {}
    for rule in rules:
        if (other := found.setdefault(rule[1:], rule)) != rule:
            raise ValueError(f'"{format_rule(rule)}" and "{format_rule(other)}" contradict each other')
    ordered = sorted(found.values(), key=_order)
    for source, own in by_prefix(ordered).items():
        if len(own) > MOST_PER_PREFIX:
            raise ValueError(f"{source} has {len(own)} rules with those around it; {MOST_PER_PREFIX} is the limit")
    return ordered


def _rule(text: str) -> Rule:
    match = _RULE.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text[:60]}" is no rule such as "deny 10.8.0.0/26 tcp/22"')
    verb, cidr, protocol, low, high = match.groups()
    try:
        source = ipaddress.ip_network(cidr)
    except ValueError as error:
        raise ValueError(f'"{text[:60]}": {error}') from None
    if protocol is None:
        return Rule(verb == "allow", source)
    if protocol not in PROTOCOLS and not (protocol.isdigit() and 0 < int(protocol) < 256):
        raise ValueError(f'"{text[:60]}": no protocol "{protocol}" ({", ".join(PROTOCOLS)}, or a number)')
    number = PROTOCOLS.get(protocol) or int(protocol)
    if low is None:
        return Rule(verb == "allow", source, number)
    if number not in [PROTOCOLS[name] for name in _WITH_PORTS]:
        raise ValueError(f'"{text[:60]}": {protocol} has no ports')
    ports = (int(low), int(high or low))
    if not 0 < ports[0] <= ports[1] <= 65535:
        raise ValueError(f'"{text[:60]}": ports are 1 to 65535')
    return Rule(verb == "allow", source, number, *ports)


def _order(rule: Rule) -> tuple[object, ...]:
    source = rule.source
    place = (source.version, int(source.network_address), source.prefixlen)
    return (*place, rule.width, rule.protocol, rule.low)


def by_prefix(rules: Sequence[Rule]) -> dict[Network, list[Rule]]:
    """Per prefix its own rules, then those of the prefixes around it: the longest one that says anything decides."""
    own: dict[Network, list[Rule]] = {}
    for rule in rules:
        own.setdefault(rule.source, []).append(rule)
    return {source: [*mine, *_around(source, own)] for source, mine in own.items()}


def _around(source: Network, own: Mapping[Network, Sequence[Rule]]) -> list[Rule]:
    found: list[Rule] = []
    for length in range(source.prefixlen - 1, -1, -1):
        found += own.get(source.supernet(new_prefix=length), ())
    return found


def format_rule(rule: Rule) -> str:
    """As it is written: "deny 10.8.0.0/26 tcp/22"."""
    words = ["allow" if rule.allow else "deny", str(rule.source)]
    if rule.protocol:
        named = {number: name for name, number in PROTOCOLS.items()}.get(rule.protocol, str(rule.protocol))
        span = f"{rule.low}-{rule.high}" if rule.high != rule.low else str(rule.low)
        words.append(named if (rule.low, rule.high) == ANY_PORT else f"{named}/{span}")
    return " ".join(words)


def format_acl(rules: Sequence[Rule]) -> str:
    """The one spelling of these rules."""
    return ", ".join(format_rule(rule) for rule in sorted(rules, key=_order))


def parse_programs(text: str) -> list[str]:
    """The programs of "acl, count" in their order, none for "none"; raises ValueError in one line."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if words in ([], ["none"]):
        return []
    for word in words:
        if word not in PROGRAMS:
            raise ValueError(f'no program "{word[:20]}" ({", ".join(PROGRAMS)})')
    if len(set(words)) < len(words):
        raise ValueError(f'must be "none", or programs once each ({", ".join(PROGRAMS)})')
    return [word for word in PROGRAMS if word in words]


def canonical(values: Mapping[str, str | int | bool]) -> dict[str, str | int | bool]:
    """Every value in its one spelling, those of programs that are not there as nothing; raises ValueError."""
    programs = parse_programs(str(values.get("programs", "none")))
    if not programs:
        return dict(NOTHING)
    shared = ("mode", "stale_s", *(name for program in programs for name in OF.get(program, ())))
    made = {**NOTHING, **{name: values[name] for name in shared if name in values}, "programs": ",".join(programs)}
    made["acl"] = format_acl(parse_acl(str(made["acl"])))
    if made["quic_cpus"]:
        made["quic_cpus"] = format_cpulist(parse_cpulist(str(made["quic_cpus"])))
    return made
