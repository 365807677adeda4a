"""XDP programs of ours on igb and virtio_net, native, in a guest's kernel; and the agent that keeps them alive."""

import json
import subprocess
from typing import Any

import pytest

from tests.lab.conftest import Bench, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.root]
AGENT = "RACKHAND_OBSERVE=false /opt/rackhand/bin/rackhand-agent"
POLICY = """
name: drop
nics: ["ifname={ifname}"]
allow: [blackhole]
knobs:
  xdp: {{programs: "count, acl, ratelimit", acl: "deny 10.78.{at}.66/32", rate_pps: 1000, stale_s: 5}}
"""
FACTS = """
import json
from collectors.run import collect_facts
from machine.live import Live
import msgspec
print(msgspec.json.encode(collect_facts(Live(), ("xdp", "ethtool"))).decode())
"""


def xdp_of(bench: Bench, ifname: str) -> dict[str, Any]:
    """What `ip` says is on a NIC; empty for nothing."""
    found: dict[str, Any] = json.loads(bench.guest.run(f"ip -d -j link show {ifname}"))[0].get("xdp", {})
    return found


def pings(bench: Bench, at: int, source: int) -> bool:
    argv = bench.lab.wires.inside("ping", "-c1", "-W1", "-I", f"10.78.{at}.{source}", f"10.78.{at}.2")
    return subprocess.run(argv, check=False, capture_output=True).returncode == 0


def test_igb_and_virtio_drop_natively_while_the_agent_lives(server: Bench) -> None:
    names = {at: server.nic(at) for at in (0, 2)}
    server.guest.run("sysctl -qw net.ipv4.conf.all.arp_ignore=1; systemctl stop rackhand-agent || :")
    for at, name in names.items():
        server.guest.run(f"ip addr add 10.78.{at}.2/24 dev {name} && ip link set {name} up")
        for last in (1, 66):
            server.lab.wires.address("data", f"10.78.{at}.{last}/24")
        wait_for(lambda at=at: pings(server, at, 66), f"data NIC {at} answers")  # type: ignore[misc]
    before = json.loads(server.python(FACTS))
    for at, name in names.items():
        server.guest.write("/root/policy.yaml", POLICY.format(ifname=name, at=at))
        print(server.guest.run(f"{AGENT} apply /root/policy.yaml --yes 2>&1", timeout_s=300))
        found = xdp_of(server, name)
        assert (found["mode"], found["prog"]["name"]) == (1, "rh_root"), "native"
    server.start_agent()
    for at in names:
        wait_for(lambda at=at: not pings(server, at, 66), "the agent has taken over")  # type: ignore[misc]
        assert pings(server, at, 1)
    pid = server.guest.run("systemctl show -p MainPID --value rackhand-agent").strip()
    server.guest.run(f"kill -STOP {pid}")
    for at in names:
        wait_for(lambda at=at: pings(server, at, 66), "the kill switch")  # type: ignore[misc]
    server.guest.run(f"kill -CONT {pid}")
    for at in names:
        wait_for(lambda at=at: not pings(server, at, 66), "the heartbeat is back")  # type: ignore[misc]
    server.guest.run("systemctl stop rackhand-agent")
    for name in reversed(names.values()):
        print(server.guest.run(f"{AGENT} rollback --yes", timeout_s=300))
        assert xdp_of(server, name) == {}
    assert server.guest.run("ls /sys/fs/bpf/rackhand").strip() == ""
    assert json.loads(server.python(FACTS)) == before
