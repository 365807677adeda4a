"""PCIe, memory, trust, watchdog, clocks, firmware: what the collectors say of a server, against its own tools."""

import json
import re
from typing import Any

import pytest

from hardware_lab import dimms, errors
from tests.lab.conftest import Bench, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.soak]
COLLECT = """
import msgspec
from collectors.registry import by_name
from collectors.run import run
from machine.live import Live
with Live() as machine:
    found = {name: run(by_name(name), machine, 0) for name in %r}
print(msgspec.json.encode({name: [str(r.status), r.reason, r.facts, r.samples] for name, r in found.items()}).decode())
"""
DEVLINK = "modprobe netdevsim && echo '7 1' > /sys/bus/netdevsim/new_device"

Found = dict[str, list[dict[str, Any]]]


def collect(bench: Bench, *names: str) -> tuple[Found, dict[tuple[str, str], float]]:
    """Facts by collector, and samples, of one run each; fails for one that did not end well."""
    said = json.loads(bench.python(COLLECT % (names,), timeout_s=300))
    assert {name: (status, reason) for name, (status, reason, *_) in said.items()} == dict.fromkeys(names, ("ok", ""))
    samples = {(metric, key): value for *_, found in said.values() for metric, key, value in found}
    return {name: facts for name, (_, _, facts, _) in said.items()}, samples


def by_key(facts: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {fact.get("key", kind): fact for fact in facts if fact["kind"] == kind}


def test_pcie_functions_are_as_lspci_decodes_them(server: Bench) -> None:
    facts = by_key(collect(server, "pcie")[0]["pcie"], "pcie")
    shown = {block.split()[0]: block for block in server.guest.run("lspci -D -vvv").split("\n\n") if block.strip()}
    express = {address for address, block in shown.items() if "] Express" in block}
    virtual = set(server.guest.run("for f in /sys/bus/pci/devices/*/physfn; do echo $f; done | cut -d/ -f6").split())
    assert set(facts) == express - virtual
    for address, fact in facts.items():
        sizes = re.search(r"MaxPayload (\d+) bytes, MaxReadReq (\d+) bytes", shown[address])
        assert sizes
        assert (fact["max_payload_bytes"], fact["max_read_request_bytes"]) == (int(sizes[1]), int(sizes[2])), address
        assert fact.get("aer", False) is ("Advanced Error Reporting" in shown[address]), address
        assert ("acs" in fact) is ("Access Control Services" in shown[address]), address
        above = server.guest.run(f"basename $(dirname $(readlink -f /sys/bus/pci/devices/{address}))").strip()
        assert fact.get("parent", "") == (above if ":" in above.partition(":")[2] else "")


def test_an_injected_pcie_error_is_counted_and_an_event_in_the_inventory(loop: Bench) -> None:
    ifname = loop.nic(0)
    loop.guest.run(f"ip link set {ifname} up")
    address = loop.guest.run(f"basename $(readlink -f /sys/class/net/{ifname}/device)").strip()
    wait_for(lambda: {"pcie"} <= {fact["kind"] for fact in loop.facts()}, "PCIe in the inventory")
    errors.aer(loop.guest, ifname, "corrected")
    wait_for(lambda: "pcie.error" in loop.events(), "the error in the inventory")
    found = [event for event in loop.lab.ask("events", "-n", "1000") if event["kind"] == "pcie.error"]
    assert address in {event["key"] for event in found}
    assert collect(loop, "pcie")[1]["pcie.correctable_errors", address] == 1


def test_memory_errors_are_counted_at_their_slot_and_found(loop: Bench) -> None:
    dimms.load(loop.guest, labels=["X1", "X2"])
    facts, samples = collect(loop, "edac")
    controllers = by_key(facts["edac"], "edac")
    assert set(controllers) == {"mc0", "mc1"}
    assert {module["label"] for module in controllers["mc0"]["modules"]} >= {"X1", "X2"}
    (key,) = [one["dimm"] for one in controllers["mc0"]["modules"] if one["label"] == "X2"]
    assert samples["edac.corrected_errors", key] == 0
    wait_for(lambda: "X2" in labels(loop.facts()), "these modules in the inventory: from then on errors are edges")
    dimms.inject(loop.guest, "X2", "CE", 5)
    dimms.inject(loop.guest, "X2", "UE")
    wait_for(lambda: "memory.error" in loop.events(), "the error in the inventory")
    after = collect(loop, "edac")[1]
    assert (after["edac.corrected_errors", key], after["edac.uncorrected_errors", key]) == (5, 1)
    assert {count for (_, slot), count in after.items() if slot != key} == {0}
    wait_for(lambda: "memory_errors" in found_rules(loop), "the finding")


def labels(facts: list[dict[str, Any]]) -> set[str]:
    return {module["label"] for fact in by_key(facts, "edac").values() for module in fact["modules"]}


def found_rules(bench: Bench) -> set[str]:
    return {one["rule"] for one in bench.lab.ask("host", bench.vm.server.name)["findings"]}


def test_the_tpms_registers_and_the_cpus_bugs_are_those_of_its_own_tools(server: Bench) -> None:
    ((fact,),) = collect(server, "trust")[0].values()
    assert fact["tpm"] == "2.0"
    read = server.guest.run("tpm2_pcrread sha256:0,4,7,9")
    registers = {f"sha256:{at}": digest.lower() for at, digest in re.findall(r"(\d+)\s*: 0x([0-9A-F]{64})", read)}
    assert len(registers) == 4
    assert {at: fact["pcrs"][at] for at in registers} == registers
    bugs = re.findall(r"^\s*Vulnerability ([^:]+):\s+(\S.*)$", server.guest.run("lscpu"), re.MULTILINE)
    assert {bug.strip().lower().replace(" ", "_") for bug, said in bugs if said != "Not affected"} == set(
        fact.get("vulnerabilities", {})
    )
    assert "secure_boot" not in fact
    assert ("out-of-tree module" in fact.get("taint", [])) is bool(
        int(server.guest.read("/proc/sys/kernel/tainted")) >> 12 & 1
    )


def test_the_watchdog_is_seen_and_not_started(server: Bench) -> None:
    facts = by_key(collect(server, "watchdog")[0]["watchdog"], "watchdog")
    (timer,) = [fact for fact in facts.values() if "i6300" in fact["identity"].lower()]
    above = server.guest.run(f"readlink -f /sys/class/watchdog/{timer['name']}/device || true").strip()
    assert timer["key"] == (above.rpartition("/")[2] if "/pci" in above else timer["identity"])
    assert timer["running"] is False
    assert timer["timeout_s"] == int(server.guest.read(f"/sys/class/watchdog/{timer['name']}/timeout"))
    assert server.guest.read(f"/sys/class/watchdog/{timer['name']}/state").strip() == "inactive"


def test_clocks_and_timestamping_are_those_of_ethtool(server: Bench) -> None:
    found, _ = collect(server, "clock", "nic")
    hardware = {fact["index"]: fact for fact in by_key(found["clock"], "ptp_clock").values()}
    stamps = {fact["ifname"]: fact for fact in by_key(found["clock"], "timestamping").values()}
    (clock,) = by_key(found["clock"], "clock").values()
    source = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
    assert clock["source"] == server.guest.read(source).strip()
    assert clock["synchronised"] is False
    nics = {fact["ifname"]: fact for fact in by_key(found["nic"], "nic").values() if fact.get("type") == "physical"}
    assert set(stamps) == set(nics)
    for ifname, stamp in stamps.items():
        said = server.guest.run(f"ethtool -T {ifname}")
        index = re.search(r"(?:PTP Hardware Clock|Hardware timestamp provider index): (\d+)", said)
        assert stamp.get("phc") == (int(index[1]) if index else None), said
        assert all(name in said for name in stamp["capabilities"])
        if index:
            assert hardware[stamp["phc"]]["key"] == nics[ifname]["address"]
    assert hardware, "no NIC with a PTP hardware clock"


def test_firmware_of_bios_nics_and_devlink(server: Bench) -> None:
    server.guest.run(DEVLINK)
    found, _ = collect(server, "firmware", "nic")
    facts = by_key(found["firmware"], "firmware")
    assert facts["bios"]["running"] == server.vm.server.machine.board.bios_version
    said = json.loads(server.guest.run("devlink dev info netdevsim/netdevsim7 -j"))["info"]["netdevsim/netdevsim7"]
    parts = {fact["part"]: fact for key, fact in facts.items() if key.startswith("nic/netdevsim/netdevsim7/")}
    for kind in ("running", "stored", "fixed"):
        versions = said.get("versions", {}).get(kind, {})
        assert {part: fact[kind] for part, fact in parts.items() if kind in fact} == versions
    nics = [fact for fact in by_key(found["nic"], "nic").values() if fact.get("firmware") and fact.get("bus") == "pci"]
    assert nics
    for nic in nics:
        assert facts[f"nic/{nic['address']}"]["running"] == nic["firmware"]


def test_machine_checks_and_boot_parameters(server: Bench) -> None:
    found, samples = collect(server, "mce", "cmdline")
    (checks,), (parameters,) = found["mce"], found["cmdline"]
    folder = "/sys/devices/system/machinecheck/machinecheck0"
    assert checks["banks"] == len(re.findall(r"bank\d+$", server.guest.run(f"ls {folder}"), re.MULTILINE))
    assert checks["poll_s"] == int(server.guest.read(f"{folder}/check_interval"))
    assert samples["mce.exceptions", ""] == 0
    words = server.guest.read("/proc/cmdline").split()
    assert {f"{name}={value}" for name, value in parameters["effective"].items() if value} <= set(words)
