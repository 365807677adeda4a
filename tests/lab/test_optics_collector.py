"""The optics collector against a kernel: modules in the cages of a guest, through netlink and through the ioctl."""

import errno
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collectors.transceiver import fact as facts
from collectors.transceiver import readings
from collectors.transceiver.cage import samples
from collectors.transceiver.decode import decode
from collectors.transceiver.image import A0, A2, LOWER, Blocks, Image
from hardware_lab import cage, eeprom
from hardware_lab.eeprom import Lane, Optic
from hardware_lab.install import UNIT
from tests.lab.conftest import Bench, wait_for
from tests.lab.test_optics import REAL, decoded

pytestmark = [pytest.mark.lab, pytest.mark.root]

RUN = """
import json, sys, msgspec
from collectors import optics
from collectors.run import run
from machine.live import Live
machine = Live()
def poll():
    result = run(optics, machine, 1)
    found = {"status": result.status, "reason": result.reason, "facts": result.facts,
             "samples": [list(one) for one in map(msgspec.to_builtins, result.samples)],
             "events": [[one.kind, one.text] for one in result.events]}
    print(msgspec.json.encode(found).decode())
def write(ifname, name, data):
    with open(f"/sys/kernel/debug/lab_cage/{ifname}/{name}", "r+b", buffering=0) as file:
        file.write(data)
def reads(ifname):
    with open(f"/sys/kernel/debug/lab_cage/{ifname}/reads") as file:
        print(file.read().strip())
"""
BYTES = """
from machine import eeprom
from machine.live import Live
machine = Live()
index = int(open("/sys/class/net/{nic}/ifindex").read())
flat = eeprom.read_info(machine, "{nic}")
for run in (eeprom.Read(0x50, 0, -1), eeprom.Read(0x50, 0, {name}, 56, 40), eeprom.Read({address}, 0, {page}, 96, 24)):
    one, other = eeprom.read(machine, index, run), eeprom.read_flat(machine, "{nic}", flat, run)
    assert one == other, (run, one, other)
    print(one.hex())
"""


def polls(server: Bench, script: str) -> list[Any]:
    """What a script of polls prints, line by line."""
    return [json.loads(line) for line in server.python(RUN + script).splitlines()]


def image(module: eeprom.Module) -> Image:
    """The module's blocks as the decoder wants them."""
    blocks: Blocks = {}
    for address, space in ((A0, module.a0), (A2, module.a2)):
        for number, block in space.items():
            bank, page = divmod(max(number - 1, 0), 256)
            blocks[address, bank, page if number else LOWER] = block
    return Image(blocks, [])


def told(module: eeprom.Module, key: str, nic: str) -> tuple[dict[str, Any], list[list[Any]]]:
    """Fact and samples of a module whose every byte is known."""
    known = decode(image(module))
    trusted = readings.believed(known)
    fact = facts.optics(known, key, nic, trusted)
    live = [] if readings.live(known) else list(samples(key, known, trusted))
    return msgspec.to_builtins(fact), [msgspec.to_builtins(sample) for sample in live]


def test_modules_are_read_from_the_kernel_as_from_a_file_and_as_ethtool_reads_them(server: Bench, data: Path) -> None:
    guest, nic = server.guest, server.nic(0)
    for module in [*(eeprom.load(data / "sfp" / f"{name}.bin") for name in REAL), eeprom.build(Optic(form="qsfp-dd"))]:
        cage.insert(guest, nic, module)
        (found,) = polls(server, "poll()")
        assert (found["status"], found["events"]) == ("ok", []), found
        (fact,) = found["facts"]
        wanted, measured = told(module, fact["key"], nic)
        for once in ("dropped", "frequency_ghz"):  # a dump has pages that a collector leaves alone, and has not all
            fact.pop(once, None), wanted.pop(once, None)
        assert fact == wanted
        assert found["samples"] == measured
        seen = decoded(guest, nic)
        assert (seen["Vendor name"], seen["Vendor PN"]) == (fact["vendor"], fact["part"])
        if any(sample[0] == "optics.temperature_celsius" for sample in measured):
            celsius = next(sample[2] for sample in measured if sample[0] == "optics.temperature_celsius")
            assert seen["Module temperature"].startswith(f"{celsius:.2f} degrees C")


def test_the_ioctl_has_the_same_bytes(server: Bench) -> None:
    guest, nic = server.guest, server.nic(0)
    for form, name, address, page in (("sfp", -1, 0x51, -1), ("qsfp28", 0, 0x50, 3)):
        module = eeprom.build(Optic(form=form))  # type: ignore[arg-type]
        cage.insert(guest, nic, module)
        lines = server.python(BYTES.format(nic=nic, name=name, address=address, page=page)).split()
        assert bytes.fromhex(lines[0]) == module.a0[0]
        assert bytes.fromhex(lines[1]) == eeprom.peek(module, "a0", 128 * (name + 1) + 56, 40)


def test_a_poll_reads_monitors_alone_and_flags_are_events(server: Bench) -> None:
    guest, nic = server.guest, server.nic(0)
    base = eeprom.build(Optic(form="qsfp28", lanes=tuple(Lane(rx_mw=0.4 + lane / 10) for lane in range(4))))
    hot = eeprom.with_monitor(base, "temperature_c", 80.0)
    cage.insert(guest, nic, base)
    lower = hot.a0[0].hex()
    script = f"""
poll(); reads("{nic}"); poll(); reads("{nic}")
write("{nic}", "a0", bytes.fromhex("{lower}")); poll(); reads("{nic}")
write("{nic}", "fail", b"{errno.EIO}"); poll(); write("{nic}", "fail", b"0"); poll()
write("{nic}", "present", b"0"); poll(); poll()
write("{nic}", "present", b"1"); poll()
"""
    first, begun, second, polled, third, again, failed, healed, pulled, empty, back = polls(server, script)
    assert polled - begun == again - polled == 1, "half pages of a poll"
    assert first["facts"] == second["facts"]
    assert first["samples"] == second["samples"]
    assert third["events"] == [
        ["optics.alarm", f"{nic}: temperature high alarm"],
        ["optics.warning", f"{nic}: temperature high warning"],
    ]
    key = third["facts"][0]["key"]
    assert ["optics.temperature_celsius", key, 80.0] in third["samples"]
    assert ["optics.rx_power_mw", f"{key}/lane4", 0.7] in third["samples"]
    assert (failed["facts"][0]["state"], failed["facts"][0]["serial"]) == ("unreadable", "LAB0000001")
    assert [kind for kind, _ in failed["events"]] == ["optics.unreadable"]
    assert "state" not in healed["facts"][0]
    assert [kind for kind, _ in pulled["events"]] == ["optics.removed"]
    assert (pulled["facts"], empty["facts"], empty["events"]) == ([], [], [])
    assert back["events"][0] == ["optics.inserted", f"{nic}: LABOPTIC LAB-SR LAB0000001 inserted"]
    cage.detach(guest, nic)
    (gone,) = polls(server, "poll()")
    assert (gone["status"], gone["reason"]) == ("absent", "no NIC has a driver that reads modules")


def test_the_inventory_has_the_module(loop: Bench) -> None:
    nic = loop.nic(0)
    cage.insert(loop.guest, nic, eeprom.build(Optic(serial="RACK42")))
    loop.guest.run(f"systemctl restart {UNIT}")

    def module() -> Any:
        return next((fact for fact in loop.facts() if fact.get("kind") == "optics"), None)

    fact = wait_for(module, "the module in the inventory")
    assert (fact["ifname"], fact["vendor"], fact["serial"]) == (nic, "LABOPTIC", "RACK42")
