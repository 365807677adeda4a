"""Flow rules, RSS contexts, symmetry, single queues: a driver of the lab's own behind the real kernel."""

import re

import pytest

from tests.lab.conftest import Bench
from tests.lab.test_receive import apply, rollback, table

pytestmark = [pytest.mark.lab, pytest.mark.root]
NIC = "steer0"
POLICY = """
name: steer
nics: ["ifname=steer0"]
knobs:
  offloads: {ntuple: true}
  rss: {reserve: 2, key: mirrored, tcp4: sdfn, udp4: sdfn, symmetric: symmetric-xor}
  ntuple:
    rules: >-
      tcp4 dst-port 22 reserved; udp4 src-ip 198.51.100.0/24 dst-port 53 drop; tcp6 src-ip 2001:db8::/32 queue 1;
      ether proto 0x88f7 queue 0; ip4 src-ip 203.0.113.7 proto 6 vf 1
    locations: 8-15
  coalesce: {tx_usecs: 80, per_queue: "0-1: rx_usecs=8; 7: rx_frames=16"}
"""
FEWER = """
name: steer
nics: ["ifname=steer0"]
knobs:
  channels: {combined: 4}
  ntuple: {rules: tcp4 dst-port 80 queue 2, locations: 8-15}
"""
LOOK = """
ethtool -x steer0; ethtool -x steer0 context 1 2>/dev/null; ethtool -n steer0; ethtool -k steer0 | grep ntuple
ethtool -n steer0 rx-flow-hash tcp4; ethtool -n steer0 rx-flow-hash udp4
ethtool -Q steer0 queue_mask 0xff --show-coalesce | grep -E 'Queue|usecs: [0-9]|frames: [0-9]'; ethtool -l steer0
"""
# What somebody else did: a rule of his own, a queue that waits otherwise
OTHERS = """
modprobe lab_steer && ip link set steer0 up && ethtool -K steer0 ntuple on
ethtool -N steer0 flow-type udp4 dst-port 4791 action 3 loc 40
ethtool --per-queue steer0 queue_mask 0x4 --coalesce rx-usecs 99 && ethtool -K steer0 ntuple on
"""


def look(bench: Bench) -> str:
    return bench.guest.run(LOOK)


def rule(shown: str, location: int) -> str:
    return shown.partition(f"Filter: {location}\n")[2].partition("\n\n")[0]


@pytest.mark.soak
def test_rules_contexts_symmetry_and_single_queues(server: Bench) -> None:
    server.guest.run(OTHERS)
    before = look(server)
    assert "Filter: 40" in before
    print(apply(server, POLICY))
    now = look(server)
    print(now)
    _, default, context = now.split("RX flow hash indirection table")
    assert set(table(default)) == set(range(6))
    assert set(table(context)) == {6, 7}
    assert "6d:5a:6d:5a" in default
    assert "Action: Direct to queue 0" in rule(now, 11)
    assert "RSS Context ID: 1" in rule(now, 8)
    assert "Dest port: 22 mask: 0x0" in rule(now, 8)
    assert "Action: Drop" in rule(now, 9)
    assert "Src IP addr: 198.51.100.0 mask: 0.0.0.255" in rule(now, 9)
    assert "Src IP addr: 2001:db8::" in rule(now, 10)
    assert "Action: Direct to VF 1 queue 0" in rule(now, 12)
    assert "Protocol: 6 mask: 0x0" in rule(now, 12)
    assert rule(now, 40) == rule(before, 40)
    assert re.search(r"Queue: 0\n.*?rx-usecs: 8\n.*?tx-usecs: 80\n", now, re.DOTALL)
    assert re.search(r"Queue: 2\n.*?rx-usecs: 99\n.*?tx-usecs: 80\n", now, re.DOTALL)
    assert re.search(r"Queue: 7\n.*?rx-frames: 16\n", now, re.DOTALL)
    print(rollback(server))
    assert look(server) == before


@pytest.mark.soak
def test_a_rule_in_the_way_of_fewer_channels_is_named_and_others_rules_stay(server: Bench) -> None:
    server.guest.run(OTHERS)
    before = look(server)
    server.guest.run(f"ethtool -N {NIC} flow-type udp4 dst-port 9 action 6 loc 41")
    said = apply(server, FEWER)
    print(said)
    assert "flow rule 41 (udp4 dst-port 9 queue 6) sends to a queue that would go" in said
    rollback(server)
    server.guest.run(f"ethtool -N {NIC} delete 41")
    print(apply(server, FEWER))
    now = look(server)
    assert "Combined:\t4" in now
    assert "Action: Direct to queue 2" in rule(now, 8)
    assert rule(now, 40) == rule(before, 40)
    print(rollback(server))
    assert look(server) == before
