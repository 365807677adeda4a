"""What stands in the maps of our XDP programs: settings into bytes and back, and the names of the counters.

The layouts are those of `bpf_programs/xdp.h` and the sources beside it.
"""

import ipaddress
import struct
from collections.abc import Iterable, Mapping

from wire.cpulist import format_cpulist, parse_cpulist
from wire.flowrule import Flow
from wire.xdp import Rule, by_prefix, format_acl, parse_acl

STATS = (
    *("tcp", "udp", "icmp", "icmp6", "igmp", "gre", "esp", "sctp", "other_ip", "arp", "lldp", "other"),
    "stale",
    *("acl_allowed", "acl_denied", "acl_kept"),
    *("rate_passed", "rate_dropped"),
    *("quic_cpu", "quic_socket", "quic_passed"),
)
(ACL_DEFAULT, RATE_COST, RATE_BURST_NS, RATE_PPS, RATE_BURST) = range(5)
(QUIC_PORT, QUIC_CID_LEN, QUIC_CID_BYTE, QUIC_WORKERS, QUIC_TO) = range(5, 10)
CONFS = 10
BEAT, LIMIT, TICK = 0, 1, 2  # of rh_pulse: ns, ns, and when the clock was read last
_VERDICTS = {"allow": 1, "deny": 2}
_TARGETS = ("cpu", "socket")
_RULE = struct.Struct("=BBBxHH")
_RULES = 16
_STAT = struct.Struct("=QQ")
_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96
FLOW_BYTES, _TCP = 40, 6
QUEUE = 2048  # packets that may wait for a CPU

Entries = dict[bytes, bytes]


def number(value: int) -> bytes:
    """A key of an array, and a value of four bytes."""
    return struct.pack("=I", value)


def _long(value: int) -> bytes:
    return struct.pack("=Q", value)


def _mapped(address: str) -> bytes:
    packed = ipaddress.ip_address(address).packed
    return packed if len(packed) == 16 else _MAPPED + packed


def flow_key(flow: Flow) -> bytes:
    """A key of rh_keep: a TCP connection with the ports that are known of it."""
    ports = struct.pack(">HH", flow.remote_port or 0, flow.local_port or 0)
    return _mapped(flow.remote) + _mapped(flow.local) + ports + number(_TCP)


def fill(values: Mapping[str, str | int | bool]) -> dict[str, Entries]:
    """The entries of each map for these settings, canonical ones; those of absent programs are for no map."""

    def whole(name: str) -> int:
        return int(values[name])

    conf = dict.fromkeys(range(CONFS), 0)
    conf[ACL_DEFAULT] = _VERDICTS.get(str(values["acl_default"]), 0)
    if pps := whole("rate_pps"):
        cost = max(1, 1_000_000_000 // pps)
        conf |= {RATE_COST: cost, RATE_BURST_NS: cost * max(0, whole("rate_burst") - 1)}
        conf |= {RATE_PPS: pps, RATE_BURST: whole("rate_burst")}
    rules, cpus = parse_acl(str(values["acl"])), parse_cpulist(str(values["quic_cpus"]))
    conf |= {QUIC_PORT: whole("quic_port"), QUIC_CID_LEN: whole("quic_cid_len"), QUIC_WORKERS: len(cpus)}
    conf |= {QUIC_CID_BYTE: whole("quic_cid_byte"), QUIC_TO: _TARGETS.index(str(values["quic_to"] or "cpu"))}
    return {
        "rh_pulse": {number(LIMIT): _long(whole("stale_s") * 1_000_000_000)},
        "rh_conf": {number(at): _long(value) for at, value in conf.items()},
        "rh_acl4": acl_entries(rules, 4),
        "rh_acl6": acl_entries(rules, 6),
        "rh_workers": {number(at): number(cpu) for at, cpu in enumerate(cpus)},
        "rh_cpus": {number(cpu): number(QUEUE) for cpu in cpus},
    }


def acl_entries(rules: list[Rule], version: int) -> Entries:
    """One entry of a family's trie per prefix: its rules, then those of the prefixes around it."""
    made: Entries = {}
    for source, both in by_prefix([rule for rule in rules if rule.source.version == version]).items():
        body = b"".join(
            _RULE.pack(1 if rule.allow else 2, rule.protocol, rule.source != source, rule.low, rule.high)
            for rule in both
        )
        made[number(source.prefixlen) + source.network_address.packed] = body.ljust(_RULES * _RULE.size, b"\0")
    return made


def read_acl(entries: Entries) -> list[Rule]:
    """The rules behind entries of a trie."""
    found: list[Rule] = []
    for key, body in entries.items():
        source = ipaddress.ip_network((key[4:], struct.unpack_from("=I", key)[0]))
        for at in range(_RULES):
            action, protocol, inherited, low, high = _RULE.unpack_from(body, at * _RULE.size)
            if action and not inherited:
                found.append(Rule(action == 1, source, protocol, low, high))
    return found


def read_settings(programs: list[str], maps: Mapping[str, Entries]) -> dict[str, str | int | bool]:
    """The settings that these maps hold, but for the mode; what no program uses is left to `canonical`."""
    conf = {int.from_bytes(at, "little"): int.from_bytes(value, "little") for at, value in _of(maps, "rh_conf")}
    pulse = {int.from_bytes(at, "little"): int.from_bytes(value, "little") for at, value in _of(maps, "rh_pulse")}
    workers = {at: int.from_bytes(value, "little") for at, value in _of(maps, "rh_workers")}
    count = conf.get(QUIC_WORKERS, 0)
    return {
        "programs": ",".join(programs) or "none",
        "stale_s": pulse.get(LIMIT, 0) // 1_000_000_000,
        "acl": format_acl([*read_acl(maps.get("rh_acl4", {})), *read_acl(maps.get("rh_acl6", {}))]),
        "acl_default": {code: word for word, code in _VERDICTS.items()}.get(conf.get(ACL_DEFAULT, 0), ""),
        "rate_pps": conf.get(RATE_PPS, 0),
        "rate_burst": conf.get(RATE_BURST, 0),
        "quic_port": conf.get(QUIC_PORT, 0),
        "quic_to": _TARGETS[conf.get(QUIC_TO, 0) % 2],
        "quic_cpus": format_cpulist(workers[number(at)] for at in range(count) if number(at) in workers),
        "quic_cid_len": conf.get(QUIC_CID_LEN, 0),
        "quic_cid_byte": conf.get(QUIC_CID_BYTE, 0),
    }


def _of(maps: Mapping[str, Entries], name: str) -> Iterable[tuple[bytes, bytes]]:
    return maps.get(name, {}).items()


def read_stats(entries: Entries) -> dict[str, list[int]]:
    """Packets and bytes by counter, summed over CPUs; those that are zero are left out."""
    found: dict[str, list[int]] = {}
    for at, name in enumerate(STATS):
        pairs = list(_STAT.iter_unpack(entries.get(number(at), b"")))
        packets, size = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
        if packets:
            found[name] = [packets, size]
    return found
