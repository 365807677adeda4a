"""Flow rules and indirection tables as text: one spelling, and everything that is none is refused."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine import rxnfc
from wire.flowrule import FLOWS, PORTED, Flow, FlowRule, FlowRuleError, format_rule, may_match, parse_rule, parse_rules
from wire.indirection import format_table, parse_table, spread, weighted

_ip4 = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 32)).map(
    lambda made: str(ipaddress.ip_network((made[0], made[1]), strict=False))
)
_nets = {
    "4": st.just("") | _ip4,
    "6": st.sampled_from(["", "2001:db8::/32", "fe80::/10", "2001:db8::7/128"]),
}
_ports = st.none() | st.integers(0, 65535)


@st.composite
def rules(draw: st.DrawFn) -> FlowRule:
    flow = draw(st.sampled_from(FLOWS))
    rule = FlowRule(flow)
    if flow == "ether":
        rule = rule._replace(proto=draw(_ports))
    else:
        rule = rule._replace(src_ip=draw(_nets[flow[-1]]), dst_ip=draw(_nets[flow[-1]]))
        if flow in PORTED:
            rule = rule._replace(src_port=draw(_ports), dst_port=draw(_ports))
        else:
            rule = rule._replace(proto=draw(st.none() | st.integers(0, 255)))
    action = draw(st.sampled_from(["queue", "vf", "context", "drop"]))
    target: dict[str, object] = {"action": action}
    if action in ("queue", "vf"):
        target["number"] = draw(st.integers(0, 100))
    return rule._replace(**(target | ({"queues": "6-7"} if action == "context" else {})))  # type: ignore[arg-type]


@given(rules())
def test_a_rule_comes_back_from_its_text_and_from_the_kernels_struct(rule: FlowRule) -> None:
    text = format_rule(rule)
    assert parse_rule(text) == rule
    packed = rxnfc.pack(rule, 5, 9)
    assert len(packed) == 192
    assert rxnfc.unpack(packed, {9: "6-7"}) == text


@given(rules(), st.integers(16, 183), st.integers(1, 255))
def test_what_a_struct_says_beyond_the_language_is_never_read_as_less(rule: FlowRule, at: int, bits: int) -> None:
    packed = bytearray(rxnfc.pack(rule, 5, 9))
    packed[at] ^= bits
    text = rxnfc.unpack(bytes(packed), {9: "6-7"})
    if not text.startswith("other "):
        again = rxnfc.pack(parse_rule(text), 5, 9)
        match, mask = packed[20:72], again[92:144]
        assert [a & m for a, m in zip(match, mask, strict=True)] == [
            a & m for a, m in zip(again[20:72], mask, strict=True)
        ]
        assert packed[92:144] + packed[146:164] == again[92:144] + again[146:164]  # masks to the bit, but for padding


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "begins with one of"),
        ("tcp5 drop", "begins with one of"),
        ("tcp4 dst-port 22", "does not end with"),
        ("tcp4 dst-port 65536 drop", "no whole number from 0 to 65535"),
        ("tcp4 dst-port 22 dst-port 23 drop", "stands twice"),
        ("tcp4 src-ip 2001:db8::1 drop", "no address of tcp4"),
        ("tcp4 src-ip 0.0.0.0/0 drop", "matches every address"),
        ("tcp4 proto 6 drop", "tcp4 has no 'proto'"),
        ("tcp4 dst-port drop", "no value"),
        ("tcp4 context 3-1", "no list of queues"),
        ("ether proto 0x10000 drop", "no whole number"),
    ],
)
def test_what_is_no_rule_says_why(text: str, why: str) -> None:
    with pytest.raises(FlowRuleError, match=why):
        parse_rule(text)


def test_two_rules_for_the_same_are_refused() -> None:
    with pytest.raises(FlowRuleError, match="two rules"):
        parse_rules("tcp4 dst-port 22 queue 1; tcp4 dst-port 22 drop")


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("tcp4 dst-port 22 drop", True),
        ("tcp4 dst-port 23 drop", False),
        ("tcp4 src-ip 192.0.2.0/24 drop", True),
        ("tcp4 src-ip 198.51.100.0/24 drop", False),
        ("tcp4 src-port 50000 drop", True),
        ("udp4 drop", False),
        ("ip4 proto 17 drop", False),
        ("ip4 drop", True),
        ("tcp6 drop", False),
        ("ether proto 0x0806 drop", True),  # without ARP there is no connection for long
        ("ether proto 0x0800 drop", True),
        ("ether proto 0x86dd drop", False),
        ("ether drop", True),
    ],
)
def test_what_may_match_a_connection(text: str, matches: bool) -> None:
    assert may_match(parse_rule(text), Flow("192.0.2.7", 50000, "192.0.2.1", 22)) is matches


@given(st.lists(st.integers(0, 300), max_size=300))
def test_a_table_comes_back_from_its_text(table: list[int]) -> None:
    assert parse_table(format_table(table)) == table


@given(st.lists(st.integers(0, 9), min_size=1, max_size=9).filter(any), st.sampled_from([16, 128, 512]))
def test_weights_share_a_table_out(weights: list[int], size: int) -> None:
    table = weighted(weights, size)
    for queue, weight in enumerate(weights):
        assert abs(table.count(queue) - size * weight / sum(weights)) < 1


@pytest.mark.parametrize(
    "text", ["x", "0-3", "0-3 over 0", "3-1 over 4", "0*0 over 4", "0-9 over 4", "0 over 99999999"]
)
def test_what_is_no_table_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_table(text)


def test_the_spelling_is_short() -> None:
    assert format_table(spread([0, 1, 2, 3], 128)) == "0-3 over 128"
    assert format_table(spread([0, 2, 3], 128)) == "0,2-3 over 128"
    assert format_table(weighted([3, 0, 1], 128)) == "0*96,2*32 over 128"
