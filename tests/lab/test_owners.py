"""A real TuneD and a real irqbalance beside a policy: named where the policy wins, left alone where it yields."""

import json
from typing import Any

import pytest

from tests.lab.conftest import Bench, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.soak]
AGENT = "RACKHAND_OBSERVE=false /opt/rackhand/bin/rackhand-agent"
PROFILE = """
[main]
include=network-latency
[net]
devices={ifname}
ring=rx 512
features=gro off
"""
POLICY = """
name: contest
nics: ["ifname={ifname}"]
mode: {mode}
knobs:
  rings: {{rx: 1024}}
  offloads: {{gro: true, tso: false}}
  irq_affinity: {{placement: local}}
"""
OWNERS = """
import msgspec
from collectors import owners
from machine.live import Live
print(msgspec.json.encode(list(owners.collect(Live()))).decode())
"""
SETUP = """
from machine import irqbalance
from machine.live import Live
print(*irqbalance.parse_setup(Live().irqbalance("setup")).banned_irqs)
"""


def ring(bench: Bench, ifname: str) -> int:
    """Descriptors of the receive ring, as ethtool says."""
    return int(bench.guest.run(f"ethtool -g {ifname} | awk '/^RX:/{{n=$2}} END{{print n}}'"))


def banned(bench: Bench) -> set[str] | None:
    """What irqbalance says that it leaves alone; None when it does not answer, slow as it is in an emulated guest."""
    said = bench.guest.attempt("/opt/rackhand/bin/python -", stdin=SETUP.encode(), timeout_s=60)
    return None if said.returncode else set(said.stdout.decode().split())


def plan(bench: Bench, ifname: str, mode: str) -> dict[str, Any]:
    bench.guest.run("cat > /root/policy.yaml", stdin=POLICY.format(ifname=ifname, mode=mode).encode())
    made: dict[str, Any] = json.loads(bench.guest.run(f"{AGENT} plan /root/policy.yaml -o json", timeout_s=120))
    return made


@pytest.fixture
def contested(server: Bench) -> Bench:
    """A server where TuneD has its profile on a data NIC, and irqbalance runs."""
    ifname = server.nic(0)
    server.guest.run(
        f"ip link set {ifname} up; mkdir -p /etc/tuned/edge; cat > /etc/tuned/edge/tuned.conf",
        stdin=PROFILE.format(ifname=ifname).encode(),
    )
    server.guest.run("systemctl unmask tuned; systemctl start tuned && tuned-adm profile edge", timeout_s=300)
    wait_for(lambda: ring(server, ifname) == 512, "TuneD's ring")
    server.guest.run(
        "systemd-run -q --unit=lab-irqbalance -p RuntimeDirectory=irqbalance"
        " /usr/sbin/irqbalance --foreground --interval=1"
    )
    wait_for(lambda: "irqbalance" in server.guest.read("/proc/net/unix"), "irqbalance at work")
    return server


def test_who_is_there_is_named_and_wins_or_yields(contested: Bench) -> None:
    ifname = contested.nic(0)
    (tuned,) = [one for one in json.loads(contested.python(OWNERS)) if one["key"] == "tuned"]
    print(tuned)
    assert (tuned["running"], tuned["profile"]) == (True, "edge")
    claims = {claim["what"]: claim for claim in tuned["claims"]}
    assert claims["rings rx"]["value"] == "512"
    assert claims["rings rx"]["nic"]
    latency = contested.guest.run("grep -h '^net.core.busy_read' -r /usr/lib/tuned/ | head -1 | cut -d= -f2").strip()
    assert claims["sysctl net.core.busy_read"]["value"] == latency, "of a profile that it includes"
    assert contested.guest.run("sysctl -n net.core.busy_read").strip() == latency.lstrip(">")

    left = plan(contested, ifname, "yield")
    assert [change["target"] for change in left["changes"]] == [], left
    reasons = " ".join(skip["reason"] for skip in left["skips"] if skip.get("status") == "yielded")
    assert "left to them: TuneD (edge) sets rings rx to 512 (/etc/tuned/edge/tuned.conf)" in reasons
    assert "left to them: irqbalance sets irq affinity" in reasons

    made = plan(contested, ifname, "enforce")
    (change,) = [change for change in made["changes"] if change["knob"] == "rings"]
    assert "but TuneD (edge) sets rings rx to 512" in change["reason"]
    before = contested.guest.run(f"ethtool -k {ifname}")
    print(contested.guest.run(f"{AGENT} apply /root/policy.yaml --yes", timeout_s=300))
    assert ring(contested, ifname) == 1024
    numbers = contested.guest.run(f"awk -F: '/{ifname}-/{{print $1+0}}' /proc/interrupts").split()
    wait_for(lambda: set(numbers) & (banned(contested) or set()), "irqbalance was told")

    contested.guest.run(f"{AGENT} rollback --yes", timeout_s=300)
    assert ring(contested, ifname) == 512
    assert contested.guest.run(f"ethtool -k {ifname}") == before
    wait_for(lambda: banned(contested) == set(), "irqbalance has them back")
