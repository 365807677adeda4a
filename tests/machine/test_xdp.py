"""Our XDP programs one packet at a time in the kernel (BPF_PROG_TEST_RUN), their artifact, and how they are loaded."""

import ipaddress
import json
import struct
from collections.abc import Iterator
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from machine import MachineError, bpf, xdp, xdp_attach, xdp_build, xdp_load, xdp_values
from machine.live import Live
from tests.machine.conftest import Namespace
from wire.flowrule import Flow
from wire.policy import Value
from wire.xdp import PROGRAMS, PROTOCOLS, Rule, canonical, format_acl

DROP, PASS, REDIRECT = 1, 2, 4
NAMES = MappingProxyType({number: name for name, number in PROTOCOLS.items()})


def ether(kind: int, body: bytes, *tags: int) -> bytes:
    header = b"".join(struct.pack(">HH", 0x8100, tag) for tag in tags)
    return bytes(12) + header + struct.pack(">H", kind) + body.ljust(50, b"\0")


def packet(source: str, protocol: int, port: int = 0, *tags: int, offset: int = 0, local: str = "") -> bytes:
    """An Ethernet frame to `port`; `offset` is a later fragment's."""
    here = ipaddress.ip_address(source)
    there = ipaddress.ip_address(local or ("192.0.2.1" if here.version == 4 else "2001:db8:ffff::1"))
    ports = struct.pack(">HHHH", 40000, port, 8, 0) if protocol != 58 else bytes([port, 0, 0, 0, 0, 0, 0, 0])
    if here.version == 4:
        head = struct.pack(">BBHHHBBH", 0x45, 0, 28, 1, offset, 64, protocol, 0)
        return ether(0x0800, head + here.packed + there.packed + ports, *tags)
    following, more = (44, struct.pack(">BBHI", protocol, 0, offset << 3, 1)) if offset else (protocol, b"")
    head = struct.pack(">IHBB", 6 << 28, 8 + len(more), following, 64)
    return ether(0x86DD, head + here.packed + there.packed + more + ports, *tags)


class Chain:
    """One loaded chain, no interface."""

    def __init__(self, loaded: xdp_load.Loaded, **values: Value) -> None:
        self.loaded = loaded
        self.root = loaded.build(canonical({"stale_s": 3600, **values}))
        self.beat(1 << 62)

    def beat(self, value: int) -> None:
        pulse = self.loaded.map("rh_pulse")
        bpf.update(pulse, xdp_values.number(xdp_values.LIMIT), value.to_bytes(8, "little"))
        bpf.update(pulse, xdp_values.number(xdp_values.TICK), bytes(8))  # as if the next tick had come

    def run(self, frame: bytes) -> int:
        return bpf.run(self.root, frame)[0]

    def stats(self) -> dict[str, list[int]]:
        size = 16 * xdp_load.possible_cpus()
        table = self.loaded.map("rh_stats")
        keys = [xdp_values.number(at) for at in range(len(xdp_values.STATS))]
        return xdp_values.read_stats({key: bpf.lookup(table, key, size) or b"" for key in keys})


@pytest.fixture
def loaded() -> Iterator[xdp_load.Loaded]:
    with xdp_load.Loaded() as made:
        yield made


pytestmark = pytest.mark.root


@pytest.mark.parametrize("tags", [(), (5,), (5, 6)])
def test_packets_are_counted_by_protocol_behind_tags_and_headers(loaded: xdp_load.Loaded, tags: tuple[int]) -> None:
    chain = Chain(loaded, programs="count")
    for address in ("10.8.0.2", "fd08::2"):
        for protocol in (6, 17, 1, 58, 2, 47, 50, 132, 99):
            assert chain.run(packet(address, protocol, 80, *tags)) == PASS
    long = bytes([43, 0]) + bytes(6) + bytes([17, 1]) + bytes(14)
    head = struct.pack(">IHBB", 6 << 28, 40, 0, 64) + bytes(32)
    for kind, body in ((0x0806, b""), (0x88CC, b""), (0x88F7, b""), (0x86DD, head + long + bytes(8))):
        assert chain.run(ether(kind, body, *tags)) == PASS
    expected = dict.fromkeys(("tcp", "icmp", "icmp6", "igmp", "gre", "esp", "sctp", "other_ip"), 2)
    expected |= {"udp": 3, "arp": 1, "lldp": 1, "other": 1}
    assert {name: packets for name, (packets, _) in chain.stats().items()} == expected


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_an_access_list_decides_as_it_reads(data: st.DataObject) -> None:
    """The longest prefix with a rule that fits, within it the narrowest."""
    v4 = st.tuples(st.integers(0, 3).map(lambda n: 0x0A080000 + n * 64), st.sampled_from([0, 8, 24, 26, 31, 32]))
    sources = v4.map(lambda pair: ipaddress.ip_network(pair, strict=False)) | st.sampled_from(
        [ipaddress.ip_network(text) for text in ("fd08::/16", "fd08::/64", "fd08::2/128", "::/0")]
    )
    ports = st.sampled_from([(0, 65535), (80, 80), (70, 90), (1, 65535)])
    triples = st.tuples(sources, st.sampled_from([6, 17]), ports) | st.tuples(
        sources, st.sampled_from([0, 1, 6]), st.just((0, 65535))
    )
    chosen = data.draw(st.dictionaries(triples, st.booleans(), max_size=9))
    rules = [Rule(allow, source, protocol, *span) for (source, protocol, span), allow in chosen.items()]
    default = data.draw(st.sampled_from(["allow", "deny"]))
    with xdp_load.Loaded() as made:
        chain = Chain(made, programs="acl", acl=format_acl(rules), acl_default=default)
        for address in ("10.8.0.1", "10.8.0.64", "10.9.0.1", "fd08::2", "fd08:0:0:1::2", "2001:db8::1"):
            for protocol, port, offset in ((6, 80, 0), (17, 75, 0), (6, 1, 0), (1, 0, 0), (17, 80, 9)):
                expected = _reads(rules, address, protocol, None if offset else port, default == "allow")
                found = chain.run(packet(address, protocol, port, offset=offset))
                assert found == (PASS if expected else DROP), (address, protocol, port, offset)


def _reads(rules: list[Rule], address: str, protocol: int, port: int | None, default: bool) -> bool:
    fits = [
        rule
        for rule in rules
        if ipaddress.ip_address(address) in rule.source
        and rule.protocol in (0, protocol)
        and ((rule.low, rule.high) == (0, 65535) or (port is not None and rule.low <= (port or 0) <= rule.high))
    ]
    first = min(fits, key=lambda rule: (-rule.source.prefixlen, rule.width), default=None)
    return default if first is None else first.allow


def test_what_keeps_the_host_reachable_is_never_dropped(loaded: xdp_load.Loaded) -> None:
    chain = Chain(loaded, programs="acl, ratelimit", acl_default="deny", rate_pps=1, rate_burst=1)
    broker, ssh = Flow("192.0.2.7", 1883, "192.0.2.1", None), Flow("fd08::7", None, "fd08::1", 22)
    for flow in (broker, ssh):
        bpf.update(loaded.map("rh_keep"), xdp_values.flow_key(flow), bytes(4))
    session = packet("fd08::7", 6, 22, local="fd08::1")
    answer = bytearray(packet("192.0.2.7", 6, 50123))
    answer[34:36] = (1883).to_bytes(2, "big")
    for frame in (
        session,
        bytes(answer),
        ether(0x0806, b""),
        *(packet("fe80::1", 58, kind) for kind in range(133, 138)),
    ):
        assert [chain.run(frame) for _ in range(5)] == [PASS] * 5
    for frame in (packet("fd08::7", 6, 23, local="fd08::1"), packet("fe80::1", 58, 128), packet("192.0.2.7", 6, 22)):
        assert chain.run(frame) == DROP


def test_without_a_heartbeat_nothing_is_dropped(loaded: xdp_load.Loaded) -> None:
    chain = Chain(loaded, programs="acl", acl_default="deny")
    assert chain.run(packet("10.8.0.2", 6, 80)) == DROP
    chain.beat(1)
    assert chain.run(packet("10.8.0.2", 6, 80)) == PASS
    assert chain.stats()["stale"][0] == 1


def test_a_connection_id_names_the_worker(loaded: xdp_load.Loaded) -> None:
    chain = Chain(
        loaded, programs="quic-steer", quic_to="cpu", quic_port=443, quic_cpus="0", quic_cid_len=8, quic_cid_byte=0
    )

    def ask(payload: bytes, port: int = 443) -> int:
        frame = packet("10.8.0.2", 17, port)
        return chain.run(frame[:42] + payload)

    short, initial = bytes([0x40]) + bytes(30), bytes([0xC0, 0, 0, 0, 1, 8]) + bytes(30)
    assert [ask(short), ask(initial)] == [REDIRECT, REDIRECT]
    assert [ask(short, 444), ask(short[:9]), ask(b"\xc0\0\0\0\1\0" + bytes(30))] == [PASS, PASS, PASS]


def test_settings_are_read_back_from_the_maps() -> None:
    values = {
        "programs": "acl,quic-steer",
        "acl": "deny ::/0, allow 10.0.0.0/8 tcp/22-23, deny 10.0.0.0/8, allow 0.0.0.0/0 99",
    }
    wanted = canonical({**values, "acl_default": "deny", "stale_s": 5, "quic_port": 443, "quic_to": "socket"})
    filled = xdp_values.fill(wanted)
    assert canonical({**xdp_values.read_settings(["acl", "quic-steer"], filled)}) == wanted | {"mode": ""}


def test_no_bytes_are_dropped_by_what_only_counts_or_allows(loaded: xdp_load.Loaded) -> None:
    chain = Chain(loaded, programs="count,acl", acl="allow 0.0.0.0/0, allow ::/0", acl_default="allow")

    @given(data=st.binary(max_size=200))
    @settings(max_examples=200, deadline=None)
    def passes(data: bytes) -> None:
        assert chain.run(data.ljust(14, b"\0")) == PASS

    passes()


def test_the_artifact_was_made_from_these_sources() -> None:
    assert xdp_load.artifact().source == xdp_build.digest()


def test_the_programs_built_anew_are_the_artifact() -> None:
    clang = xdp_build.compiler()
    made = xdp_build.build(clang)
    there = json.loads(xdp_load.ARTIFACT.read_text())
    if clang == xdp_build.COMPILERS[0]:
        assert made == there
    assert {name: made["maps"][name] for name in there["maps"]} == there["maps"]
    with xdp_load.Loaded() as loaded:
        for name in (xdp_load.ROOT, xdp_load.CANARY, *xdp_load.NAMES.values()):
            loaded.load(name)


def test_what_the_verifier_says_is_in_the_error() -> None:
    with pytest.raises(MachineError, match=r"the verifier rejects bad: .*R0 !read_ok"):
        bpf.load(bytes.fromhex("9500000000000000"), "bad", "GPL")
    assert len(bpf.shortened("x" * 10_000)) < 500


def test_without_links_netlink_replaces_what_it_expects(veth: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> int:
        raise MachineError("bpf: attach: Invalid argument")

    monkeypatch.setattr(bpf, "create_link", none)
    index = veth.ifindex("va")

    def attach() -> list[int]:
        found: list[int] = []
        with Live() as live, xdp_load.Loaded() as made:
            one, two = made.load("rh_pass"), made.load("rh_root")
            xdp_attach.attach(live, index, one, "native")
            found.append(xdp.read_attached_to(live, index).program == bpf.program(one).id)
            with pytest.raises(MachineError, match=r"(?i)already|exist"):
                xdp_attach.attach(live, index, two, "native")
            xdp_attach._replace(live, index, two, one, "native")
            found.append(xdp.read_attached_to(live, index).program == bpf.program(two).id)
            with pytest.raises(MachineError, match="took the place of ours"):
                xdp_attach._replace(live, index, two, one, "native")
            xdp_attach.detach(live, index, xdp.read_attached_to(live, index))
            found.append(not xdp.read_attached_to(live, index).program)
        return found

    assert veth.run(attach) == [True, True, True]


def test_programs_meet_a_packet_in_their_order() -> None:
    assert xdp_load.following(["acl", "quic-steer"]) == ["acl", "acl", "quic-steer", "quic-steer"]
    assert xdp_load.following(list(PROGRAMS)) == list(PROGRAMS)
    assert xdp_load.following(["count"]) == ["count", "", "", ""]
