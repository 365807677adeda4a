"""What happens to a server with real drivers in it is told to the inventory, and a hook runs on it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from hardware_lab import errors, faults
from hardware_lab.install import CONFIG
from tests.lab.conftest import Bench, reporting, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.soak]
HOOKS = "/etc/rackhand/hooks.d"
RULES = f"""
[events]
hooks_dir = "{HOOKS}"
[[events.rule]]
kind = "block.*"
action = "hook"
hook = "disk"
[[events.rule]]
kind = "address.*"
action = "drop"
"""
SCRIPT = f"""#!/bin/sh
if [ "$RACKHAND_EVENT_KIND" = block.removed ]; then exit 7; fi
cat > {HOOKS}/../said
"""


@pytest.fixture
def watched(server: Bench) -> Iterator[Bench]:
    """A server whose agent has rules and a hook, known to an empty inventory."""
    guest = server.guest
    guest.run(f"cat >> {CONFIG}", stdin=RULES.encode())
    guest.run(f"mkdir -p -m 755 {HOOKS} && cat > {HOOKS}/disk && chmod 755 {HOOKS}/disk", stdin=SCRIPT.encode())
    with reporting(server):
        yield server


def told(bench: Bench, kind: str, **data: object) -> dict[str, Any]:
    """The first event of that kind and with these data, once the inventory has it."""

    def found() -> list[dict[str, Any]]:
        events = bench.lab.ask("events", "-n", "1000") or []
        return [one for one in events if one["kind"] == kind and data.items() <= {**one["data"], **one}.items()]

    first: dict[str, Any] = wait_for(found, f"{kind} with {data}: {set(bench.events())}")[-1]
    return first


def test_what_is_plugged_is_told_with_its_name(watched: Bench) -> None:
    ifname = watched.nic(0)
    address = watched.guest.run(f"basename $(readlink -f /sys/class/net/{ifname}/device)").strip()
    faults.unplug(watched.lab, watched.vm)
    assert told(watched, "pci.removed", key=address)["severity"] == "warning"
    told(watched, "link.removed", ifname=ifname)
    faults.plug(watched.lab, watched.vm)
    added = told(watched, "pci.added", key=address)
    assert "Intel" in added["data"]["model"]
    assert told(watched, "pci.bound", key=address)["data"]["driver"]
    told(watched, "link.added")


def test_a_drive_is_plugged_and_pulled_and_a_hook_runs(watched: Bench) -> None:
    watched.vm.plug_nvme()
    disk = told(watched, "block.added")
    assert (disk["key"], disk["data"]["devname"]) == ("nvme0n1", "nvme0n1")
    told(watched, "pci.added", key=told(watched, "nvme.added")["data"]["pci"])
    said = f"cat {HOOKS}/../said 2>/dev/null || true"
    heard = wait_for(lambda: watched.guest.run(said).strip(), "what the hook was told")
    assert json.loads(heard)["kind"] == "block.added"
    with watched.monitor() as monitor:
        monitor.run("device_del", id="nvme0")
    told(watched, "block.removed", key="nvme0n1")
    failed = told(watched, "hook.failed", key="disk")
    assert (failed["data"]["code"], failed["data"]["event"]) == (7, "block.removed")


def test_errors_that_hardware_reports_are_told(watched: Bench) -> None:
    ifname = watched.nic(0)
    watched.guest.run(f"ip link set {ifname} up")
    errors.aer(watched.guest, ifname, "corrected")
    assert told(watched, "pcie.error")["severity"] == "info"
    errors.machine_check(watched.vm)  # corrected, found by polling: no counter has it
    check = told(watched, "mce.record")
    assert (check["key"], check["data"]["address"], check["severity"]) == ("cpu0", 0x12345678, "warning")
    assert "bank 7: corrected memory read" in check["text"]
    errors.aer(watched.guest, ifname, "nonfatal")
    wait_for(lambda: watched.events().count("pcie.recovery") >= 2, "the recovery, and that it succeeded")


def test_a_knob_that_somebody_else_turns_is_told(watched: Bench) -> None:
    ifname = watched.nic(0)
    watched.guest.run(f"ip link set {ifname} up && ethtool -G {ifname} rx 512")
    knob = told(watched, "knob.changed", ifname=ifname, knob="rings")
    assert knob["data"]["rx"] == 512
    watched.guest.run(f"ip addr add 192.0.2.1/24 dev {ifname} && ip route add 198.51.100.0/24 dev {ifname}")
    assert told(watched, "route.added", ifname=ifname)["data"]["route"] == "198.51.100.0/24"
    assert "address.added" not in watched.events()


def test_a_link_that_flaps_is_counted(watched: Bench) -> None:
    ifname = watched.nic(0)
    watched.guest.run(f"ip link set {ifname} up")
    told(watched, "link.up", ifname=ifname)
    for _ in range(6):
        faults.pull_cable(watched.lab, watched.vm)
        carrier(watched, ifname, "0")
        faults.put_cable(watched.lab, watched.vm)
        carrier(watched, ifname, "1")
    flapping = told(watched, "link.flapping", ifname=ifname)
    changes = [one for one in watched.lab.ask("events", "-n", "1000") if one["data"].get("ifname") == ifname]
    assert flapping["data"]["count"] >= 4
    assert sorted(changes, key=lambda one: int(one["id"]))[-1]["kind"] == "link.up"


def carrier(bench: Bench, ifname: str, wanted: str) -> None:
    path = f"/sys/class/net/{ifname}/carrier"
    wait_for(lambda: bench.guest.read(path).strip() == wanted, f"carrier {wanted}")
