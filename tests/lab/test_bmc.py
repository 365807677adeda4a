"""The simulated BMC read by ipmitool, which knows nothing of our records: alone, and as a server's own."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from hardware_lab import bmc_records as records
from hardware_lab.bmc import Bmc, BmcError, Ports, prepare
from hardware_lab.failure import LabError
from hardware_lab.guest import GuestError
from hardware_lab.machine import Machine, Nic, Node, Nvme, Server
from tests.lab.conftest import Bench, wait_for

pytestmark = pytest.mark.lab
UNITS = {"degrees C": records.CELSIUS, "Volts": records.VOLTS, "Watts": records.WATTS, "RPM": records.RPM}
LARGE = Server("large", 12, Machine(nodes=(Node(),) * 8, nics=(Nic(),) * 16, nvme=(Nvme(),) * 16))


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Bmc]:
    """A running BMC without a server."""
    made = prepare(Server("srv", 4, Machine()), tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def bench(server: Bench) -> Iterator[Bench]:
    """A server whose BMC answers inside; it is as new again after the test."""
    wait_for(lambda: inside(server), "the BMC inside")
    yield server
    server.bmc.renew()


def inside(bench: Bench) -> bool:
    return bench.guest.attempt("ipmitool mc info").returncode == 0


def declared(server: Server) -> dict[str, tuple[object, ...]]:
    """Every sensor's value, unit and thresholds, or its states, as `ipmitool sensor` prints them."""
    found: dict[str, tuple[object, ...]] = {}
    for sensor in records.sensors(server).values():
        if isinstance(sensor, records.Discrete):
            found[sensor.name] = (records.mask(sensor.on),)
            continue
        low = [*sensor.low, None, None, None][:3]
        high = [*sensor.high, None, None, None][:3]
        found[sensor.name] = (sensor.value, sensor.unit, *reversed(low), *high)
    return found


def parse(text: str) -> dict[str, tuple[object, ...]]:
    """`ipmitool sensor` as `declared` has it."""
    found: dict[str, tuple[object, ...]] = {}
    for line in text.splitlines():
        name, value, unit, _, *limits = (cell.strip() for cell in line.split("|"))
        if unit == "discrete":
            found[name] = (int(value, 16),)
        else:
            found[name] = (float(value), UNITS[unit], *(None if limit == "na" else float(limit) for limit in limits))
    return found


def frus(text: str) -> dict[str, dict[str, str]]:
    """`ipmitool fru`: each unit's fields."""
    found: dict[str, dict[str, str]] = {}
    for block in text.strip().split("\n\n"):
        title, *lines = block.splitlines()
        name = re.sub(r".*: (.*) \(ID \d+\)", r"\1", title).removesuffix(" Device")
        found[name] = dict((part.strip() for part in line.split(":", 1)) for line in lines)  # type: ignore[misc]
    return found


def check_frus(text: str, server: Server) -> None:
    found = frus(text)
    board, number = server.machine.board, server.number
    assert list(found) == ["Builtin FRU", "PSU1 FRU", "PSU2 FRU"]
    assert found["Builtin FRU"] == {
        **{"Chassis Type": "Rack Mount Chassis", "Chassis Part Number": "LAB-CH-1U"},
        **{"Chassis Serial": f"CH{number:07d}", "Board Mfg Date": "Unspecified", "Board Mfg": board.vendor},
        **{"Board Product": board.board, "Board Serial": f"BD{number:07d}", "Board Part Number": "BPN-1"},
        **{"Product Manufacturer": board.vendor, "Product Name": board.product, "Product Part Number": "LS1000"},
        **{"Product Version": "A1", "Product Serial": server.serial, "Product Asset Tag": f"ASSET-{number}"},
    }
    assert found["PSU2 FRU"]["Product Serial"] == f"PSU{number:05d}2"


def events(text: str) -> list[tuple[str, str, str]]:
    """`ipmitool sel elist`: sensor, event, asserted or deasserted."""
    rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if "|" in line]
    return [(row[3], row[4], row[5]) for row in rows]


# -- alone -------------------------------------------------------------------------------------------------------------


def test_sensors_and_frus_are_those_declared(alone: Bmc) -> None:
    assert parse(alone.run("sensor")) == declared(alone.server)
    check_frus(alone.run("fru"), alone.server)
    assert events(alone.run("sel", "elist")) == []


def test_the_largest_machine_is_served_whole(tmp_path: Path) -> None:
    made = prepare(LARGE, tmp_path)
    made.start()
    try:
        assert parse(made.run("sensor")) == declared(LARGE)
    finally:
        made.stop()


def test_identity_and_network_are_the_servers(alone: Bmc) -> None:
    guid = re.search(r"System GUID\s*: (\S+)", alone.run("mc", "guid"))
    assert guid
    assert UUID(guid[1]) == UUID(alone.server.uuid)
    assert "MAC Address             : 52:54:00:1b:04:00" in alone.run("lan", "print", "1")
    assert alone.run("chassis", "power", "status") == "Chassis Power is off\n"


def test_a_reading_beyond_its_thresholds_is_logged_with_the_time_and_so_is_its_return(alone: Bmc) -> None:
    alone.set("CPU0 Temp", 95)
    alone.set("PSU1 Status", {0, 3})
    wait_for(lambda: len(events(alone.run("sel", "elist"))) == 3, "three events")
    alone.set("CPU0 Temp", 60)
    alone.set("PSU1 Status", {0})
    wait_for(lambda: len(events(alone.run("sel", "elist"))) == 6, "their ends")
    raised = [
        ("Temperature CPU0 Temp", "Upper Non-critical going high"),
        ("Temperature CPU0 Temp", "Upper Critical going high"),
        ("Power Supply PSU1 Status", "Power Supply AC lost"),
    ]
    text = alone.run("sel", "elist")
    assert sorted(events(text)) == sorted((*event, state) for event in raised for state in ("Asserted", "Deasserted"))
    assert "Pre-Init" not in text
    assert time.strftime("| %m/%d/%y |", time.gmtime()) in text


def test_a_lost_sensor_has_no_reading_and_comes_back(alone: Bmc) -> None:
    def line(name: str) -> str:
        return next(line for line in alone.run("sdr").splitlines() if line.startswith(name))

    alone.lose("FAN2")
    wait_for(lambda: line("FAN2").endswith("| ns"), "no reading")
    assert line("FAN1").endswith("| ok")
    assert events(alone.run("sel", "elist")) == []
    alone.find("FAN2")
    wait_for(lambda: line("FAN2") == "FAN2             | 7200 RPM          | ok", "the reading again")


def test_the_password_is_asked_for(alone: Bmc) -> None:
    secret = alone.folder / "password"
    right = secret.read_text()
    secret.write_text("wrong\n")
    with pytest.raises(BmcError, match=r"mc info: Error: Unable to establish"):
        alone.run("mc", "info")
    secret.write_text(right)
    assert "Firmware Revision         : 2.0e" in alone.run("mc", "info")


@pytest.mark.parametrize("fault", ["hang", "kill"])
def test_a_bmc_that_does_not_answer_is_one_line_and_comes_back_with_its_log(alone: Bmc, fault: str) -> None:
    alone.set("Chassis Intru", {0})
    wait_for(lambda: len(events(alone.run("sel", "elist"))) == 1, "the event")
    getattr(alone, fault)()
    with pytest.raises(BmcError, match=r"^ipmitool mc info: [^\n]*$"):
        alone.run("mc", "info")
    alone.revive()
    logged = [event for event in events(alone.run("sel", "elist")) if "Chassis Intru" in event[0]]
    assert logged[0] == ("Physical Security Chassis Intru", "General Chassis intrusion", "Asserted")


def test_a_renewed_bmc_has_forgotten_everything(alone: Bmc) -> None:
    ports = alone.ports
    alone.set("CPU0 Temp", 95)
    wait_for(lambda: len(events(alone.run("sel", "elist"))) == 2, "the events")
    alone.lose("FAN1")
    alone.run("lan", "set", "1", "ipaddr", "192.0.2.77")
    alone.hang()
    alone.renew()
    assert alone.ports == ports
    assert parse(alone.run("sensor")) == declared(alone.server)
    assert events(alone.run("sel", "elist")) == []
    assert "192.0.2.4" in alone.run("lan", "print", "1")


def test_a_taken_port_is_one_line(alone: Bmc, tmp_path: Path) -> None:
    for taken in (
        Ports(alone.ports.lan, alone.ports.console, 1),
        Ports(alone.ports.console, alone.ports.vm, 1),
    ):
        other = prepare(Server("other", 5, Machine()), tmp_path / "other", ports=taken)
        with pytest.raises(LabError, match=r"^the BMC cannot listen on 127\.0\.0\.1:\d+: Address already in use$"):
            other.start()
    with pytest.raises(LabError, match="runs already"):
        alone.start()


# -- as a server's -----------------------------------------------------------------------------------------------------


def test_the_guest_and_the_network_see_the_same_bmc(bench: Bench) -> None:
    found = parse(bench.guest.run("ipmitool sensor"))
    assert found == declared(bench.vm.server)
    assert parse(bench.bmc.run("sensor")) == found
    check_frus(bench.guest.run("ipmitool fru"), bench.vm.server)
    assert bench.guest.run("cat /sys/class/dmi/id/product_serial").strip() == bench.vm.server.serial
    bench.bmc.set("CPU1 Temp", 93)
    raised = [
        ("Temperature CPU1 Temp", "Upper Non-critical going high", "Asserted"),
        ("Temperature CPU1 Temp", "Upper Critical going high", "Asserted"),
    ]
    wait_for(lambda: events(bench.guest.run("ipmitool sel elist")) == raised, "the events inside")
    assert events(bench.bmc.run("sel", "elist")) == raised
    bench.guest.run("ipmitool sel clear")
    wait_for(lambda: events(bench.bmc.run("sel", "elist")) == [], "the log cleared from inside")


@pytest.mark.parametrize("fault", ["hang", "kill"])
def test_a_bmc_without_answers_is_an_error_inside_and_comes_back(bench: Bench, fault: str) -> None:
    getattr(bench.bmc, fault)()
    with pytest.raises(GuestError, match="ended with"):
        bench.guest.run("ipmitool mc info")
    bench.bmc.revive()
    wait_for(lambda: inside(bench), "the BMC inside again")
    assert parse(bench.guest.run("ipmitool sensor")) == declared(bench.vm.server)


def test_the_power_button_is_real(bench: Bench) -> None:
    bmc, vm = bench.bmc, bench.vm
    first = bench.guest.read("/proc/sys/kernel/random/boot_id")
    assert bmc.run("chassis", "power", "status") == "Chassis Power is on\n"
    with bench.monitor() as monitor:
        bmc.run("chassis", "power", "reset")
        assert monitor.wait_for(lambda event: event["event"] == "RESET")["data"]["reason"] == "host-qmp-system-reset"
    bmc.run("chassis", "power", "off")
    assert bmc.run("chassis", "power", "status") == "Chassis Power is off\n"
    assert not vm.on
    bmc.run("chassis", "bootdev", "pxe")
    assert "Force PXE" in bmc.run("chassis", "bootparam", "get", "5")
    bench.guest.hang_up()
    bmc.run("chassis", "power", "on")
    assert bmc.run("chassis", "power", "status") == "Chassis Power is on\n"
    vm.wait_ready()
    assert bench.guest.read("/proc/sys/kernel/random/boot_id") != first
    bmc.run("chassis", "power", "soft")
    wait_for(lambda: not vm.on, "the guest shut down")
    assert bmc.run("chassis", "power", "status") == "Chassis Power is off\n"
