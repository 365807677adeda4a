"""A BMC's texts and records; tests/lab/test_bmc.py has the simulator serve them and ipmitool read them."""

import stat
import struct
import subprocess
from pathlib import Path

import pytest

from hardware_lab import bmc, chassis
from hardware_lab import bmc_records as records
from hardware_lab.failure import LabError
from hardware_lab.machine import Machine, Nic, Node, Nvme, Server

SERVER = Server("srv1", 7, Machine())
PORTS = bmc.Ports(lan=9001, vm=9002, console=9003)


@pytest.fixture
def made(tmp_path: Path) -> bmc.Bmc:
    """A BMC's files, without its process."""
    return bmc.prepare(SERVER, tmp_path, ports=PORTS, password="secret-password")


def fields(area: bytes) -> list[str]:
    """The texts of a FRU area from its first length byte on, up to the mark that ends them."""
    texts: list[str] = []
    while area[0] != 0xC1:
        assert area[0] >> 6 == 3
        length = area[0] & 0x3F
        texts.append(area[1 : 1 + length].decode("latin-1"))
        area = area[1 + length :]
    return texts


def test_the_configuration() -> None:
    assert bmc.lan_conf(SERVER, PORTS, "secret") == (
        'name "lab"\n'
        "set_working_mc 0x20\n"
        "  startlan 1\n"
        "    addr 127.0.0.1 9001\n"
        "    priv_limit admin\n"
        "    allowed_auths_callback md5\n"
        "    allowed_auths_user md5\n"
        "    allowed_auths_operator md5\n"
        "    allowed_auths_admin md5\n"
        "    guid 8e236b45f015dc5288a3c8ca8e4e46d5\n"
        '    lan_config_program "./lan"\n'
        "  endlan\n"
        '  chassis_control "./chassis"\n'
        "  serial 15 127.0.0.1 9002 codec VM\n"
        '  sol "tcp:127.0.0.1:9003" 115200 history=16384\n'
        '  user 1 false "" "" user 10 md5\n'
        '  user 2 true "admin" "secret" admin 10 md5\n'
    )


def test_the_commands_of_an_analog_and_a_discrete_sensor() -> None:
    text = bmc.commands(SERVER)
    assert (
        "main_sdr_add 0x20 0x00 0x00 0x51 0x01 0x34 0x20 0x00 0x01 0x03 0x01 0x7f 0x68 0x01 0x01 0x80 0x0a 0x80 0x0a"
        " 0x38 0x38 0x00 0x01 0x00 0x00 0x01 0x00 0x00 0x00 0x00 0x00 0x00 0x00 0x00 0x00 0xff 0x00 0x64 0x5a 0x50"
        " 0x00 0x00 0x00 0x02 0x02 0x00 0x00 0x00 0xc9 0x43 0x50 0x55 0x30 0x20 0x54 0x65 0x6d 0x70\n"
        'sensor_add 0x20 0 129 0xc0 0x6f poll 500 file "there/1"\n'
        "sensor_set_bit 0x20 0 129 0 1 0\n"
        "sensor_set_event_support 0x20 0 129 disable scanning none"
        " 000000000000000 000000000000000 000000000000000 000000000000000\n"
        'sensor_add 0x20 0 1 0x01 0x01 poll 500 file "value/1" depends=0x20,0,129,0\n'
        "sensor_set_value 0x20 0 1 48 0\n"
        "sensor_set_threshold 0x20 0 1 settable 111000 0x64 0x5a 0x50 0x00 0x00 0x00\n"
        "sensor_set_hysteresis 0x20 0 1 settable 2 2\n"
        "sensor_set_event_support 0x20 0 1 enable scanning per-state"
        " 000101010000000 000101010000000 000101010000000 000101010000000\n"
    ) in text
    assert (
        'sensor_add 0x20 0 14 0x08 0x6f poll 500 file "value/14" depends=0x20,0,142,0\n'
        "sensor_set_bit 0x20 0 14 0 1 0\n"
        "sensor_set_event_support 0x20 0 14 enable scanning per-state"
        " 000000000001111 000000000001111 000000000001111 000000000001111\n"
    ) in text
    assert 'mc_add_fru_data 0x20 0 512 file 0 "fru0.bin"\n' in text
    assert text.endswith("mc_enable 0x20\n")


def test_sensors_follow_the_machine() -> None:
    machine = Machine(nodes=(Node(),), nics=(Nic(model="virtio-net"), Nic()), nvme=(Nvme(), Nvme()))
    names = [sensor.name for sensor in records.sensors(Server("one", 1, machine)).values()]
    assert names == [
        *("CPU0 Temp", "DIMM A1 Temp", "Inlet Temp", "NIC1 Temp", "FAN1", "FAN2", "12V"),
        *("PSU1 Power", "PSU1 Status", "PSU2 Power", "PSU2 Status", "Chassis Intru", "Drive 0", "Drive 1"),
        "DIMM A1 ECC",
    ]


def test_the_largest_machine_has_room_for_all_its_sensors() -> None:
    machine = Machine(nodes=(Node(),) * 8, nics=(Nic(),) * 16, nvme=(Nvme(),) * 16)
    found = records.sensors(Server("large", 99, machine))
    assert max(found) < 128  # above are the hidden ones
    assert len({sensor.name for sensor in found.values()}) == len(found)
    assert all(len(sensor.name) <= 16 for sensor in found.values())
    for number, sensor in found.items():
        record = records.sensor_record(number, sensor)
        assert (record[2], record[4]) == (0x51, len(record) - 5)


@pytest.mark.parametrize(
    ("name", "low", "high"), [("12V", [10.8, 10.2, 0], [13.2, 13.8, 0]), ("FAN1", [2000, 1000, 0], [0] * 3)]
)
def test_a_record_says_what_its_sensor_declares(name: str, low: list[float], high: list[float]) -> None:
    number, sensor = next((n, s) for n, s in records.sensors(SERVER).items() if s.name == name)
    assert isinstance(sensor, records.Analog)
    record = records.sensor_record(number, sensor)
    multiplier, exponents = record[24], record[29]
    exponent = exponents >> 4 if exponents >> 4 < 8 else (exponents >> 4) - 16
    upper, lower = record[36:39], record[39:42]  # each from non-recoverable to non-critical
    assert [byte * multiplier * 10.0**exponent for byte in reversed(upper)] == pytest.approx(high)
    assert [byte * multiplier * 10.0**exponent for byte in reversed(lower)] == pytest.approx(low)
    readable = struct.unpack_from("B", record, 18)[0]
    assert readable == sum(1 << bit for bit, value in enumerate([*low, *high]) if value)
    assert record[48:].decode() == name


def test_a_reading_is_a_byte_of_its_step() -> None:
    volts = records.Analog("12V", records.Entity(7), records.VOLTAGE, records.VOLTS, 12, step=6, exponent=-2)
    assert (volts.raw(12.06), volts.raw(0), volts.raw(15.3)) == (201, 0, 255)
    for wrong in (-1, 15.4):
        with pytest.raises(LabError, match=f"12V: {wrong} is beyond 0 to 15.3"):
            volts.raw(wrong)


def test_a_state_must_be_one_the_sensor_has() -> None:
    drive = records.Discrete("Drive 0", records.Entity(26), records.DRIVE, (0, 1))
    assert drive.raw((0, 1, 1)) == 3
    with pytest.raises(LabError, match=r"Drive 0 has states \(0, 1\), not \[5\]"):
        drive.raw((0, 5))


def test_a_fru_image_holds_the_servers_identities() -> None:
    image = records.fru_image(records.frus(SERVER)[0])
    assert len(image) == 512
    assert sum(image[:8]) & 255 == 0
    areas: list[bytes] = []
    for at in image[2:5]:
        start = at * 8
        areas.append(image[start : start + image[start + 1] * 8])
        assert sum(areas[-1]) & 255 == 0
    chassis_area, board, product = areas
    assert fields(chassis_area[3:]) == ["LAB-CH-1U", "CH0000007"]
    assert fields(board[6:])[:4] == ["LabWorks", "X12-LAB", "BD0000007", "BPN-1"]
    assert fields(product[3:])[:6] == ["LabWorks", "LabServer 1000", "LS1000", "A1", "SN0000007", "ASSET-7"]


def test_a_text_of_one_letter_does_not_end_the_fields() -> None:
    fru = records.Fru(name="x", entity=records.Entity(7), product=("A", "B", "", "1"))
    image = records.fru_image(fru)
    assert image[2:5] == bytes([0, 0, 1])
    assert fields(image[11:])[:4] == ["A ", "B ", "", "1 "]


def test_names_too_long_for_a_fru_are_refused() -> None:
    fru = records.Fru(name="x", entity=records.Entity(7), board=("x" * 60,) * 4, product=("y" * 60,) * 6)
    with pytest.raises(LabError, match="shorten the board's names"):
        records.fru_image(fru)


def test_the_password_is_for_its_owner_only(made: bmc.Bmc) -> None:
    assert stat.S_IMODE(made.folder.stat().st_mode) == 0o700
    holders = [path for path in made.folder.rglob("*") if path.is_file() and b"secret-password" in path.read_bytes()]
    assert {path.name for path in holders} == {"password", "lan.conf"}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in holders)
    assert not any("secret-password" in word for word in made.argv)


def test_without_a_password_each_bmc_has_its_own(tmp_path: Path) -> None:
    passwords = {bmc.prepare(SERVER, tmp_path / str(n)).password for n in range(3)}
    assert len(passwords) == 3
    assert {len(password) for password in passwords} == {16}  # the most that every client sends


def test_value_files_hold_what_the_simulator_reads(made: bmc.Bmc) -> None:
    def value(number: int) -> str:
        return (made.folder / f"value/{number}").read_text()

    assert value(1) == "48\n"
    made.set("CPU0 Temp", 95)
    made.set("PSU1 Status", {0, 3})
    made.set("12V", 11.4)
    assert (value(1), value(14), value(12)) == ("95\n", "9\n", "190\n")
    made.lose("FAN2")
    assert (made.folder / "there/9").read_text() == "0\n"
    made.find("FAN2")
    assert (made.folder / "there/9").read_text() == "1\n"
    assert not list(made.folder.rglob("*.new"))


def test_wrong_sensors_and_values_are_one_line(made: bmc.Bmc) -> None:
    with pytest.raises(LabError, match="no sensor 'CPU9 Temp': CPU0 Temp, CPU1 Temp"):
        made.set("CPU9 Temp", 1)
    with pytest.raises(LabError, match="CPU0 Temp takes a number"):
        made.set("CPU0 Temp", {1})
    with pytest.raises(LabError, match="Drive 0 takes a set of states"):
        made.set("Drive 0", 1)


def test_a_bmc_is_found_again_by_its_folder(made: bmc.Bmc) -> None:
    again = bmc.Bmc(made.folder.parent)
    assert (again.ports, again.server) == (PORTS, SERVER)
    assert not again.running()
    with pytest.raises(LabError, match="does not run"):
        again.hang()


def test_a_folder_without_a_bmc_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no BMC was prepared here"):
        bmc.Bmc(tmp_path)


def test_the_lan_program_answers_and_remembers(made: bmc.Bmc) -> None:
    def ask(*words: str) -> str:
        command = ["./lan", *words]
        return subprocess.run(command, cwd=made.folder, check=True, capture_output=True, text=True).stdout

    assert ask("get", "ip_addr", "mac_addr") == "ip_addr:192.0.2.7\nmac_addr:52:54:00:1b:07:00\n"
    ask("set", "ip_addr", "192.0.2.99", "subnet_mask", "255.255.0.0")
    assert ask("get", "ip_addr", "subnet_mask") == "ip_addr:192.0.2.99\nsubnet_mask:255.255.0.0\n"
    assert ask("check", "ip_addr", "192.0.2.99") == ""


def test_the_chassis_program_answers_for_a_machine_that_is_off(made: bmc.Bmc) -> None:
    def ask(*words: str) -> str:
        command = ["./chassis", *words]
        return subprocess.run(command, cwd=made.folder, check=True, capture_output=True, text=True).stdout

    assert ask("get", "power", "boot") == "power:0\nboot:none\n"
    assert ask("set", "boot", "pxe") == ""
    assert ask("set", "identify", "15 0") == ""
    for verb in ("reset", "shutdown", "power"):
        assert ask("set", verb, "0") == ""
    assert ask("get", "boot", "identify", "power") == "boot:pxe\nidentify:15 0\npower:0\n"


def test_a_machine_that_cannot_be_started_is_an_error(made: bmc.Bmc, capfd: pytest.CaptureFixture[str]) -> None:
    assert chassis.main([str(made.folder.parent), "set", "power", "1"]) == 1
    assert "no such server" in capfd.readouterr().err


def test_what_qemu_is_told() -> None:
    assert bmc.devices(PORTS) == [
        *("-chardev", "socket,id=kcs,host=127.0.0.1,port=9002,reconnect-ms=1000"),
        *("-device", "ipmi-bmc-extern,id=bmc,chardev=kcs", "-device", "isa-ipmi-kcs,bmc=bmc,irq=5"),
        *("-chardev", "socket,id=sol,host=127.0.0.1,port=9003,server=on,wait=off"),
        *("-device", "isa-serial,chardev=sol,index=1"),
    ]


def test_free_ports_are_three() -> None:
    ports = bmc.free_ports()
    assert len({ports.lan, ports.vm, ports.console}) >= 2
    assert ports.vm != ports.console
