"""What the inventory says of the server is what QEMU was told to build."""

from typing import Any

import pytest

from hardware_lab.machine import Nic
from tests.lab.conftest import Bench, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.root]


def of_kind(facts: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {fact.get("key", ""): fact for fact in facts if fact["kind"] == kind}


def test_the_inventory_has_what_was_built(loop: Bench) -> None:
    server, machine = loop.vm.server, loop.vm.server.machine
    wait_for(lambda: "pci" in {fact["kind"] for fact in loop.facts()}, "all collectors")
    facts = loop.facts()

    system = of_kind(facts, "dmi")[""]
    assert (system["vendor"], system["product"]) == (machine.board.vendor, machine.board.product)
    assert (system["serial"], system["uuid"]) == (server.serial, server.uuid)
    assert (system["board"], system["bios_version"]) == (machine.board.board, machine.board.bios_version)

    assert of_kind(facts, "cpu")[""]["threads"] == machine.cpus
    nodes = of_kind(facts, "numa")
    assert [nodes[f"node{at}"]["cpus"] for at in range(len(machine.nodes))] == ["0-1", "2-3"]
    for at, node in enumerate(machine.nodes):
        assert 0.9 * node.memory_mib < nodes[f"node{at}"]["memory_kb"] / 1024 <= node.memory_mib

    dimms = of_kind(facts, "dimm")
    assert {dimm["serial"] for dimm in dimms.values()} == {server.dimm_serial()}
    assert sum(dimm["size_mib"] for dimm in dimms.values()) == machine.memory_mib
    assert {dimm["part"] for dimm in dimms.values()} == {machine.dimm.part}

    nics = {key: fact for key, fact in of_kind(facts, "nic").items() if fact.get("type") == "physical"}
    assert set(nics) == {server.management_mac, *(server.mac(at) for at in range(len(machine.nics)))}
    assert nics[server.management_mac]["ifname"] == "mgmt0"
    channels = of_kind(facts, "ethtool")
    for at, nic in enumerate(machine.nics):
        found, driven = nics[server.mac(at)], channels[server.mac(at)]["channels"]
        assert found["numa_node"] == nic.node
        assert found["driver"] == nic.model.replace("-", "_")
        assert (found.get("sriov_total"), driven["combined_max"]) == expected(nic)


def expected(nic: Nic) -> tuple[int | None, int]:
    """Virtual functions and queue pairs: an 82576 has seven and eight, virtio what it was given."""
    return (7, 8) if nic.model == "igb" else (None, nic.queues)


def test_a_drive_plugged_in_while_it_runs_is_inventoried(loop: Bench) -> None:
    loop.vm.plug_nvme()
    serial = loop.vm.server.nvme_serial(0)
    wait_for(lambda: serial in loop.guest.run("cat /sys/class/nvme/*/serial 2>/dev/null || true"), "the drive")
    wait_for(lambda: "0108" in {fact.get("class_id", "")[:4] for fact in loop.facts()}, "the drive in the inventory")
