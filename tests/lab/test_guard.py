"""The management NIC: a change that would cut it is refused; forced, it cuts, and is undone by what is left alive."""

import pytest

from hardware_lab import faults
from hardware_lab.install import UNIT
from tests.lab.conftest import Bench, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.root]
BEFORE = 4  # queues of the management NIC
CUT = """
name: cut
nics: ["ifname=mgmt0"]
knobs:
  channels: {combined: 1%s}
confirm_within_s: 30
"""
ALLOWED = CUT % ", allow: [link]"
# In the guest, before it is cut off: when the change is there, kill who made it, with the dead-man left alone.
KILLER = """
until [ "$(ethtool -l mgmt0 | awk '/Combined/{n=$2} END{print n}')" = 1 ]; do sleep 0.05; done
systemctl kill --kill-who=main -s %(signal)s rackhand-agent.service
pkill -%(signal)s -f '^[^ ]*python[^ ]* -m agent.transaction'
cut -d' ' -f1 /proc/uptime > /root/killed
"""


def channels(bench: Bench) -> int:
    return int(bench.guest.run("ethtool -l mgmt0 | awk '/Combined/{n=$2} END{print n}'"))


def restored(bench: Bench, states: list[str]) -> None:
    """It is reachable, as before, the journal says how, and nothing is left half-way."""
    wait_for(lambda: bench.answers() and channels(bench) == BEFORE, "the management NIC as before")
    wait_for(lambda: bench.journals()[: len(states)] == states, f"journals {states}: {bench.journals()}")


def test_what_would_cut_management_is_refused(loop: Bench) -> None:
    loop.apply(CUT % "")
    loop.wait_status("failed")
    (outcome,) = loop.outcomes()
    assert outcome["status"] == "refused"
    assert "mgmt0 carries the" in outcome["reason"]
    assert "needs allow: [link]" in outcome["reason"]
    assert channels(loop) == BEFORE
    assert loop.journals() == []


def test_forced_it_cuts_and_the_transaction_undoes_it(loop: Bench) -> None:
    with faults.deaf_with_one_queue(loop.vm) as deaf:
        loop.apply(ALLOWED)
        wait_for(deaf.is_set, "the NIC deaf")
        restored(loop, ["reverted"])
        loop.wait_status("reverted")
    assert "not as before after channels of mgmt0" in loop.host_reason()


@pytest.mark.parametrize("signal", ["KILL", "STOP"])
def test_forced_with_the_agent_killed_or_hung_the_dead_man_undoes_it(loop: Bench, signal: str) -> None:
    loop.guest.run(
        "cat > /root/killer; setsid sh /root/killer >/dev/null 2>&1 </dev/null &",
        stdin=(KILLER % {"signal": signal}).encode(),
    )
    with faults.deaf_with_one_queue(loop.vm) as deaf:
        loop.apply(ALLOWED)
        wait_for(deaf.is_set, "the NIC deaf")
        restored(loop, ["reverted"])
        said = loop.guest.run("journalctl -o cat -u 'rackhand-deadman-*'")
        assert "Started rackhand-deadman-" in said
        print(loop.guest.run("cat /root/killed; cut -d' ' -f1 /proc/uptime"), said)
        loop.guest.run(f"systemctl kill -s CONT {UNIT}")
        loop.wait_status("reverted")


def test_a_power_cut_in_the_middle_ends_as_before(loop: Bench) -> None:
    boot = loop.guest.read("/proc/sys/kernel/random/boot_id")
    with faults.deaf_with_one_queue(loop.vm) as deaf:
        loop.apply(ALLOWED)
        wait_for(deaf.is_set, "the NIC deaf")
        faults.cut_power(loop.lab, loop.vm)
        loop.vm.wait_ready()
        assert loop.guest.read("/proc/sys/kernel/random/boot_id") != boot
        wait_for(lambda: loop.answers() and "void" in loop.journals(), "the journal of the other boot closed")
        loop.wait_status("reverted")  # it was tried again, and undone again
        restored(loop, ["void", "reverted"])
