"""A NIC that is pulled out in the middle of an apply: one clear outcome, and everything goes on."""

import pytest

from tests.lab.conftest import Bench, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.root]
POLICY = """
name: many
nics: ["ifname={ifname}"]
knobs:
  rings: {{rx: 1024, tx: 1024}}
  channels: {{combined: 2}}
  coalesce: {{rx_usecs: 50}}
  irq_affinity: {{placement: local}}
  xps: {{mode: auto}}
  rps: {{mode: all}}
"""
# In the guest: as soon as the first change is there, the NIC is gone.
PULLER = """
until ethtool -g {ifname} | grep -A4 Current | grep -q 1024; do sleep 0.02; done
echo 1 > /sys/class/net/{ifname}/device/remove
echo done > /root/pulled
"""


def test_a_nic_pulled_in_the_middle_of_an_apply(loop: Bench) -> None:
    ifname, mac = loop.nic(0), loop.vm.server.mac(0)
    loop.guest.run(f"ip link set {ifname} up")
    loop.guest.run(
        "cat > /root/puller; setsid sh /root/puller >/dev/null 2>&1 </dev/null &",
        stdin=PULLER.format(ifname=ifname).encode(),
    )
    loop.apply(POLICY.format(ifname=ifname))
    wait_for(lambda: "done" in loop.guest.run("cat /root/pulled 2>/dev/null || true"), "the NIC gone")
    wait_for(
        lambda: loop.journals() and loop.journals()[-1] not in ("open", "reverting", "bare"),
        f"an end: {loop.journals()}",
    )
    wait_for(lambda: loop.host().get("status") in ("failed", "reverted", "applied"), f"a status: {loop.host()}")
    outcomes = loop.outcomes()
    print(
        loop.journals(),
        loop.host()["status"],
        [(one["knob"], one["status"], one.get("reason", "")) for one in outcomes],
    )
    assert all(one.get("reason") for one in outcomes if one["status"] in ("failed", "reverted"))
    assert loop.guest.run("systemctl is-active rackhand-agent.service").strip() == "active"

    loop.guest.run("echo 1 > /sys/bus/pci/rescan")
    wait_for(lambda: loop.nic(0), "the NIC back")
    wait_for(
        lambda: any(fact["key"] == mac and fact["kind"] == "nic" for fact in loop.facts()), "back in the inventory"
    )
