"""A flow rule that would take a management connection away is refused, whatever the policy allows."""

import sys

import pytest

from agent import flows
from tests.agent.test_guard import TCP, TCP6
from wire.flowrule import Flow
from wire.policy import Blast, Change, Request

SSH = Flow("10.9.0.2", 54000, "10.9.0.1", 22)
BROKER = Flow("2001:db8::7", None, "", None)
WHY = {"nic": "default route"}


def change(rule: str, nic: str = "nic") -> Change:
    op = Request("ntuple", {"rule": ""}, {"rule": rule}, ifindex=3, ifname="eth0", item="5")
    return Change(knob="ntuple", target="eth0 rule 5", op=op, nic=nic, blast=Blast.BLACKHOLE)


@pytest.mark.skipif(sys.byteorder != "little", reason="the text was recorded on a little-endian machine")
def test_the_connections_are_read_with_both_their_ends() -> None:
    assert flows.parse(TCP) == [SSH]
    assert [(flow.remote, flow.local_port) for flow in flows.parse(TCP6)] == [("10.9.0.9", 22), ("2001:db8::2", 22)]
    assert len(flows.parse(TCP, {"18112"})) == 2


@pytest.mark.parametrize(
    ("rule", "taken"),
    [
        ("tcp4 dst-port 22 drop", "10.9.0.2"),
        ("tcp4 src-ip 10.9.0.0/16 vf 1", "10.9.0.2"),
        ("tcp6 src-ip 2001:db8::/32 src-port 8883 drop", "2001:db8::7"),
        ("ether proto 0x0806 drop", "10.9.0.2"),
        ("tcp4 dst-port 22 queue 3", ""),
        ("tcp4 src-ip 10.8.0.0/16 drop", ""),
        ("udp6 drop", ""),
        ("", ""),
    ],
)
def test_only_what_may_take_one_away_is_refused(rule: str, taken: str) -> None:
    found = flows.refused([change(rule)], [SSH, BROKER], WHY)
    assert [taken in reason for reason in found.values()] == ([True] if taken else [])


def test_a_nic_off_the_management_path_may_drop_what_it_likes() -> None:
    assert flows.refused([change("tcp4 dst-port 22 drop", nic="other")], [SSH], WHY) == {}
