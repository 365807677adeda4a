"""A NIC that is pulled out in the middle of an apply: one clear outcome, and everything goes on."""

import pytest

from tests.lab.conftest import MANY, Bench, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.root]
RINGS = 1024
POLICY = MANY + "  xps: {{mode: auto}}\n  rps: {{mode: all}}\n"
# In the guest: as soon as the first change is there, the NIC is gone.
PULLER = """
until ethtool -g {ifname} | grep -A4 Current | grep -q {rings}; do sleep 0.02; done
echo 1 > /sys/class/net/{ifname}/device/remove
echo done > /root/pulled
"""


def test_a_nic_pulled_in_the_middle_of_an_apply(loop: Bench) -> None:
    ifname, mac = loop.nic(0), loop.vm.server.mac(0)
    loop.guest.run(f"ip link set {ifname} up")
    loop.guest.run(
        "cat > /root/puller; setsid sh /root/puller >/dev/null 2>&1 </dev/null &",
        stdin=PULLER.format(ifname=ifname, rings=RINGS).encode(),
    )
    loop.apply(POLICY.format(ifname=ifname))
    wait_for(lambda: "done" in loop.guest.run("cat /root/pulled 2>/dev/null || true"), "the NIC gone")
    wait_for(lambda: "policy.failed" in loop.events(), f"told: {loop.events()}")
    assert loop.journals() == ["reverted"]
    (failed,) = [event for event in loop.lab.ask("events", "-n", "1000") if event["kind"] == "policy.failed"]
    print(failed)
    wait_for(lambda: not any(fact.get("key") == mac for fact in loop.facts()), "gone from the inventory")
    loop.wait_status("applied")  # a document without it: there is nothing left to do
    assert loop.outcomes() == []
    assert loop.guest.run("systemctl is-active rackhand-agent.service").strip() == "active"

    loop.guest.run("echo 1 > /sys/bus/pci/rescan")
    wait_for(lambda: loop.nic(0), "the NIC back")
    wait_for(lambda: any(fact.get("key") == mac for fact in loop.facts()), "back in the inventory")
    wait_for(lambda: rings(loop, loop.nic(0)) == RINGS, "the policy is for it again")
    loop.wait_status("applied")


def rings(bench: Bench, ifname: str) -> int:
    return int(bench.guest.run(f"ethtool -g {ifname} | awk '/^RX:/{{n=$2}} END{{print n}}'"))
