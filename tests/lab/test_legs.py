"""A bond of two real ports: one leg at a time, the idle one first, and never the last healthy one unasked."""

import json

import pytest

from tests.lab.conftest import Bench, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.root]
AGENT = "/opt/rackhand/bin/rackhand-agent"
POLICY = """
name: legs
nics: ["ifname in {ports}"]
knobs:
  channels: {{combined: {count}}}
  rings: {{rx: 1024}}
"""
STAGES = """
from pathlib import Path
from agent import journal
for path in journal.paths(Path("/root/state")):
    for stage in journal.read(path).stages:
        print(path.stem[:8], stage.changes[0].target, *[one.knob for one in stage.changes])
"""
LEGS = """
from agent import legs
from machine.live import Live
for leg in legs.read(Live()).legs.values():
    print(leg.master, leg.health.good, leg.active, leg.others)
"""


def apply(bench: Bench, ports: list[str], count: int) -> dict[str, str]:
    """Outcome by what follows it, of a policy for these NICs applied in the guest."""
    bench.guest.run("cat > /root/legs.yaml", stdin=POLICY.format(ports=",".join(ports), count=count).encode())
    said = bench.guest.run(f"{AGENT} apply /root/legs.yaml --yes --state /root/state 2>&1 || true")
    print(said)
    return {line.split()[1] + " " + line.split()[0]: line for line in said.splitlines() if len(line.split()) > 2}


def settings(bench: Bench, port: str) -> str:
    return bench.guest.run(f"ethtool -l {port} | tail -n 3; ethtool -g {port} | tail -n 7")


def mii(bench: Bench) -> list[str]:
    return bench.guest.run("awk '/^MII Status/{print $3}' /proc/net/bonding/bond7").split()


def test_one_leg_at_a_time_and_never_the_last_one_unasked(server: Bench) -> None:
    ports = [server.nic(0), server.nic(1)]
    server.guest.run(
        "ip link add bond7 type bond mode active-backup miimon 100;"
        + "".join(f"ip link set {port} down; ip link set {port} master bond7;" for port in ports)
        + f"ip link set bond7 up; echo {ports[0]} > /sys/class/net/bond7/bonding/active_slave || true;"
        "ip addr add 10.99.0.2/24 dev bond7; ip route add default dev bond7 metric 5000"
    )
    wait_for(lambda: mii(server) == ["up"] * 3, "both legs up")
    server.guest.run(f"until echo {ports[0]} > /sys/class/net/bond7/bonding/active_slave; do sleep 0.2; done")
    before = [settings(server, port) for port in ports]
    said = apply(server, ports, 2)
    assert [settings(server, port) != was for port, was in zip(ports, before, strict=True)] == [True, True], said
    stages = [line.split()[1:] for line in server.python(STAGES).splitlines()]
    assert [stage[0] for stage in stages[:2]] == [ports[1], ports[0]], "the leg that stands by comes first"
    assert all({"channels", "rings"} == set(stage[1:]) for stage in stages[:2])
    failures = server.guest.run("awk '/Link Failure Count/{print $4}' /proc/net/bonding/bond7").split()
    print(f"link failures as the bond counts them: {failures}; {json.dumps(stages)}")
    wait_for(lambda: mii(server) == ["up"] * 3, "both legs up again")

    server.guest.run(f"{AGENT} rollback --yes --state /root/state")
    assert [settings(server, port) for port in ports] == before

    server.guest.run(f"ip link set {ports[1]} down")
    wait_for(lambda: "True True 0" in server.python(LEGS), "one leg left")
    text = "\n".join(apply(server, ports, 3).values())
    assert f"{ports[0]} carries the default route; needs allow: [link]" in text
    assert settings(server, ports[0]) == before[0]
    server.guest.run("ip route del default dev bond7")
    text = "\n".join(apply(server, ports, 3).values())
    assert f"{ports[0]} is the last healthy leg of bond7; needs allow: [link]" in text
    assert settings(server, ports[0]) == before[0]
