"""The BMC in-band: responses as a BMC gives them, on file; tests/lab/test_bmc.py has them over KCS."""

import re
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import bmc
from collectors.run import run
from machine import BusyError, MachineError, ipmi
from machine.capture import Captured, Recording
from machine.disguise import Disguise
from machine.live import Live
from machine.tape import Body, Call
from wire.facts import Bmc
from wire.report import Sample, Status

DEVICE_ID = bytes.fromhex("00 20 01 02 48 02 8f a20200 0100")
UNSET = ".".join("0000")
GUID = bytes(range(16))
SEL = bytes.fromhex("00 51 0300 f03f 80e5165f 00000000 82")
CHASSIS = bytes.fromhex("00 21 00 61")
POWER = bytes.fromhex("00 dc 7c00 6e00 8c00 7d00 80e5165f e8030000 40")


def lan(number: int, data: str) -> tuple[Call, Body]:
    return ("ipmi", "0c", "02", f"01{number:02x}0000"), bytes.fromhex(f"0011{data}")


def tape(**more: bytes) -> dict[Call, Body]:
    """A BMC with everything; channel 1 is its LAN."""
    return {
        ("ipmi", "06", "01", "-"): DEVICE_ID,
        ("ipmi", "06", "37", "-"): b"\0" + GUID,
        ("ipmi", "00", "01", "-"): CHASSIS,
        ("ipmi", "06", "42", "01"): bytes.fromhex("00 01 04 01 80 f21b00 0000"),
        ("ipmi", "0a", "40", "-"): SEL,
        ("ipmi", "2c", "02", "dc010000"): POWER,
        **dict(
            [
                lan(3, "c0000207"),
                lan(4, "02"),
                lan(5, "525400aabb01"),
                lan(6, "ffffff00"),
                lan(12, "c00002fe"),
                lan(20, "6480"),
            ]
        ),
        ("ipmi", "0c", "02", "01380000"): bytes.fromhex("0011 00 80" + "20010db8" + "00" * 11 + "01" + "40 00"),
        ("ipmi", "0c", "02", "01380100"): b"\xc9",
        ("ipmi", "0c", "02", "013b0000"): bytes.fromhex("0011 00 01" + "00" * 16 + "00 00"),
        ("file", "/sys/class/dmi/id/product_uuid"): b"4E4A8F2A-0000-4000-8000-5254001B0700\n",
        **{("ipmi", name[1:3], name[3:5], "-"): body for name, body in more.items()},
    }


def machine(calls: Mapping[Call, Body]) -> Captured:
    recording = Recording(Live())
    recording.tape = dict(calls)
    return Captured(recording.dump(redact=False))


def test_a_bmc_says_who_and_where_it_is_and_how_full_its_log_is() -> None:
    result = run(bmc, machine(tape()), 0)
    assert result.reason == ""
    assert result.facts == [
        Bmc(
            address="192.0.2.7",
            address_source="dhcp",
            addresses6=["2001:db8::1/64"],
            netmask="255.255.255.0",
            gateway="192.0.2.254",
            vlan_id=100,
            mac="52:54:00:aa:bb:01",
            channel=1,
            version="2.48",
            ipmi_version="2.0",
            manufacturer_id=674,
            manufacturer="Dell",
            product_id=1,
            guid=GUID.hex(),
            system_uuid="4e4a8f2a-0000-4000-8000-5254001b0700",
            power="on",
            restore="previous",
            intrusion=True,
            identify="on",
            sel_overflow=True,
            sel_added="2020-07-21T12:54:24",
        )
    ]
    assert result.samples == [
        Sample("bmc.sel_entries", "bmc", 3),
        Sample("bmc.sel_free_bytes", "bmc", 16368),
        Sample("bmc.system_watts", "bmc", 124),
    ]


def test_a_machine_without_an_ipmi_device_has_none(tmp_path: Path) -> None:
    assert run(bmc, Live(str(tmp_path)), 0).status is Status.ABSENT


def test_a_bmc_that_does_little_costs_its_fields() -> None:
    result = run(bmc, machine({("ipmi", "06", "01", "-"): DEVICE_ID}), 0)
    assert result.status is Status.OK
    assert [fact.manufacturer for fact in result.facts if isinstance(fact, Bmc)] == ["Dell"]
    assert result.samples == []


@pytest.mark.parametrize("wrong", [b"\xff", b"\xc3", b"\0\x20", BusyError("the BMC does not answer")])
def test_a_bmc_that_is_gone_is_one_line(wrong: Body) -> None:
    result = run(bmc, machine(tape() | {("ipmi", "06", "01", "-"): wrong}), 0)
    assert result.status is Status.FAILED
    assert "\n" not in result.reason
    assert "BMC" in result.reason


def test_one_that_stops_half_way_is_a_failure_too() -> None:
    result = run(bmc, machine(tape() | {("ipmi", "0c", "02", "01030000"): BusyError("the BMC does not answer")}), 0)
    assert (result.status, result.facts) == (Status.FAILED, [])


@pytest.mark.parametrize("added", ["ffffffff", "00000000", "55000000"])
def test_a_clock_that_was_never_set_gives_no_date(added: str) -> None:
    fact = Bmc()
    bmc.parse_sel_info(SEL[1:6] + bytes.fromhex(added) + SEL[10:], fact)
    assert fact.sel_added == ""


def test_sentinels_never_become_readings() -> None:
    assert list(bmc.parse_sel_samples(bytes.fromhex("51 0300 ffff") + bytes(9))) == [
        Sample("bmc.sel_entries", "bmc", 3)
    ]
    assert bmc.parse_watts(POWER[1:-1] + b"\0") is None  # not measuring
    fact = Bmc()
    bmc.parse_guid(b"\xff" * 16, fact)
    bmc.parse_guid(bytes(16), fact)
    bmc.parse_lan({3: bytes(4), 4: b"\0", 5: bytes(6), 6: b"\xff" * 4, 12: bytes(4), 20: b"\0\0"}, fact)
    assert fact == Bmc()


def texts(data: Path, pattern: str) -> list[Path]:
    found = sorted((data / "ipmi").glob(pattern))
    assert found
    return found


def test_real_lan_parameters_come_back(data: Path) -> None:
    for path in texts(data, "glpi-lan/*"):
        said = dict(re.findall(r"^(\S[^:\n]*?) *: *(.*)$", path.read_text(), re.MULTILINE))
        source = next((n for n, word in bmc.SOURCES.items() if said["IP Address Source"].lower().startswith(word)), 0)
        fact = Bmc()
        bmc.parse_lan(
            {
                3: bytes(map(int, said["IP Address"].split("."))),
                4: bytes([source]),
                5: bytes.fromhex(said["MAC Address"].replace(":", "")),
                6: bytes(map(int, said["Subnet Mask"].split("."))),
                12: bytes(map(int, said["Default Gateway IP"].split("."))),
            },
            fact,
        )
        assert fact.mac == said["MAC Address"]
        assert fact.address == said["IP Address"].removeprefix(UNSET)
        assert fact.address_source == bmc.SOURCES.get(source, "")
        assert fact.gateway == said["Default Gateway IP"].removeprefix(UNSET)


def test_real_ipv6_addresses_count_where_they_are_active(data: Path) -> None:
    for path in texts(data, "ironic-python-agent/*LAN6*"):
        blocks = re.findall(r"Address:\s+(\S+)/(\d+)\s+Status:\s+(\w+)", path.read_text())
        assert blocks
        for address, prefix, status in blocks:
            packed = socket.inet_pton(socket.AF_INET6, address)
            code = 0 if status == "active" else 1
            said = bmc.parse_address6(b"\0\1" + packed + bytes([int(prefix), code]))
            assert said == ("" if address == "::" or code else f"{address}/{prefix}")


def test_a_redacted_capture_names_no_address_and_keeps_the_rest() -> None:
    recording = Recording(Live())
    recording.tape = tape()
    before, after = (run(bmc, Captured(recording.dump(redact=redact)), 0).facts[0] for redact in (False, True))
    assert isinstance(before, Bmc)
    assert isinstance(after, Bmc)
    for name in ("address", "gateway", "mac", "guid", "system_uuid", "addresses6"):
        assert getattr(before, name) != getattr(after, name)
        assert len(getattr(before, name)) == len(getattr(after, name))
        setattr(after, name, getattr(before, name))
    assert before == after


def test_a_request_that_would_change_something_is_not_asked() -> None:
    with pytest.raises(MachineError, match="not one of those that only read"):
        ipmi.ask("/dev/null", 0x00, 0x02, b"\3")  # Chassis Control: hard reset


def test_a_file_that_is_no_ipmi_device_is_one_line() -> None:
    with pytest.raises(MachineError, match=r"^/dev/null: IPMI request 0x06 0x01: "):
        ipmi.ask("/dev/null", 0x06, 0x01)


@given(st.binary(max_size=40))
def test_whatever_a_bmc_answers_there_are_fields_or_one_error(data: bytes) -> None:
    fact = Bmc()
    try:
        bmc.parse_device_id(data, fact)
    except MachineError as error:
        assert "\n" not in str(error)
    for parse in (bmc.parse_guid, bmc.parse_chassis, bmc.parse_sel_info):
        parse(data, fact)
    bmc.parse_lan(dict.fromkeys((3, 4, 5, 6, 12, 20), data), fact)
    assert bmc.parse_watts(data) is None or data[0] == 0xDC
    bmc.parse_address6(data)
    for command in (("ipmi", "06", "37", "-"), ("ipmi", "0c", "02", "01030000"), ("ipmi", "0c", "02", "013b0000")):
        assert len(ipmi.redact(command, data, Disguise(b"salt"))) == len(data)
