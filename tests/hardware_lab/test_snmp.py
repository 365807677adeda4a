"""The rack's SNMP devices against two clients that know nothing of them: gufo_snmp reads, net-snmp sets."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from gufo.snmp import Aes128Key, NoSuchInstance, Sha1Key, SnmpAuthError
from gufo.snmp import User as Reader
from gufo.snmp.sync import SnmpSession

from hardware_lab import snmp
from hardware_lab.failure import LabError

NAME = "1.3.6.1.2.1.1.5.0"


@pytest.fixture
def pdu(tmp_path: Path) -> Iterator[snmp.Device]:
    """A running PDU."""
    device = snmp.pdu(tmp_path / "pdu")
    device.start()
    yield device
    device.stop()


def v2c(device: snmp.Device, community: str = "public") -> SnmpSession:
    return SnmpSession(snmp.LOOPBACK, port=device.port, community=community, timeout=10)


def v3(device: snmp.Device, auth: str = "lab-auth-key") -> SnmpSession:
    user = Reader("lab", auth_key=Sha1Key(auth.encode()), priv_key=Aes128Key(b"lab-priv-key"))
    return SnmpSession(snmp.LOOPBACK, port=device.port, user=user, timeout=10)


def tell(device: snmp.Device, oid: str, value: int, *, secure: bool) -> None:
    """A SET by net-snmp."""
    who = ["-v2c", "-c", "public"]
    if secure:
        who = [
            "-v3",
            "-l",
            "authPriv",
            "-u",
            "lab",
            "-a",
            "SHA",
            "-A",
            "lab-auth-key",
            "-x",
            "AES",
            "-X",
            "lab-priv-key",
        ]
    where = f"{snmp.LOOPBACK}:{device.port}"
    subprocess.run(["snmpset", *who, "-t", "10", where, oid, "i", str(value)], check=True, capture_output=True)


def test_a_pdu_is_walked_whole_over_v2c_and_over_v3(pdu: snmp.Device) -> None:
    recorded = {row.oid for row in snmp.read_recording(snmp.RECORDINGS / "pdu.snmprec")}
    with v2c(pdu) as plain, v3(pdu) as secure:
        assert {oid for oid, _ in plain.getbulk("1.3.6.1")} == recorded
        assert dict(secure.getbulk("1.3.6.1")) == dict(plain.getnext("1.3.6.1"))
        assert secure.get(NAME) == b"lab-pdu-1"


def test_a_wrong_key_and_a_wrong_community_get_nothing(pdu: snmp.Device) -> None:
    with v3(pdu, auth="not-the-key") as secure, pytest.raises(SnmpAuthError):
        secure.get(NAME)
    stranger = SnmpSession(snmp.LOOPBACK, port=pdu.port, community="private", timeout=1)
    with stranger as plain, pytest.raises(TimeoutError):
        plain.get(NAME)


@pytest.mark.parametrize("secure", [False, True])
def test_an_outlet_is_switched_over_snmp_and_its_power_goes_with_it(pdu: snmp.Device, secure: bool) -> None:
    watts, state, total = f"{snmp.OUTLET_WATTS}.1", f"{snmp.OUTLET_STATE}.1", snmp.PDU_POWER
    with v2c(pdu) as plain:
        before = plain.get_many([watts, state, total])
        assert before == {watts: 148, state: 2, total: 64}
        tell(pdu, f"{snmp.OUTLET_COMMAND}.1", 2, secure=secure)
        assert plain.get_many([watts, state, total]) == {watts: 0, state: 1, total: 49}
        assert not pdu.outlets()[1]
        tell(pdu, f"{snmp.OUTLET_COMMAND}.1", 1, secure=secure)
        assert plain.get_many([watts, state, total]) == before
    assert [order for _, order in pdu.orders()] == [snmp.Order(1, 2), snmp.Order(1, 1)]


def test_a_reboot_is_an_order_that_leaves_the_outlet_on(pdu: snmp.Device) -> None:
    tell(pdu, f"{snmp.OUTLET_COMMAND}.4", 3, secure=False)
    with v2c(pdu) as plain:
        assert plain.get(f"{snmp.OUTLET_COMMAND}.4") == 1
    assert pdu.outlets()[4]
    [(number, order)] = pdu.orders()
    assert order == snmp.Order(4, 3)
    assert pdu.orders(after=number) == []


def test_what_the_lab_changes_is_what_the_next_get_says(pdu: snmp.Device) -> None:
    with v2c(pdu) as plain:
        pdu.switch_outlet(2, on=False)
        assert plain.get(f"{snmp.OUTLET_STATE}.2") == 1
        pdu.draw(2, 300)
        assert plain.get(f"{snmp.OUTLET_WATTS}.2") == 0
        pdu.switch_outlet(2, on=True)
        assert plain.get(f"{snmp.OUTLET_WATTS}.2") == 300
        pdu.write(NAME, "renamed")
        assert plain.get(NAME) == b"renamed"
    with pytest.raises(LabError, match=r"has no 1\.2\.3"):
        pdu.write("1.2.3", "4")
    with pytest.raises(LabError, match=r"has no .*\.9$"):
        pdu.switch_outlet(9, on=True)


def test_a_switch_names_the_nics_that_are_plugged_in(tmp_path: Path) -> None:
    device = snmp.Device(tmp_path, snmp.switch({2: ("52:54:00:1a:01:01", "srv1"), 7: ("52:54:00:1a:02:01", "srv2")}))
    device.start()
    try:
        with v2c(device) as plain:
            remote = dict(plain.getbulk(snmp.LLDP_REMOTE))
            assert remote[f"{snmp.LLDP_REMOTE}.7.0.2.1"] == bytes.fromhex("5254001a0101")
            assert remote[f"{snmp.LLDP_REMOTE}.9.0.7.1"] == b"srv2"
            up = dict(plain.getbulk(snmp.IF_OPER_STATUS))
            assert [port for port in range(1, 9) if up[f"{snmp.IF_OPER_STATUS}.{port}"] == 1] == [2, 7]
            assert len(dict(plain.getbulk("1.0.8802.1.1.2.1.3.7.1.3"))) == 8
            with pytest.raises(NoSuchInstance):
                plain.get(f"{snmp.LLDP_REMOTE}.7.0.3.1")
    finally:
        device.stop()


def test_recorded_walks_of_real_devices_are_served(data: Path, tmp_path: Path) -> None:
    for name in ("apc_ap8959eu3", "arista_eos_vrf", "raritan-pdu_px3"):
        rows = snmp.read_recording(data / "snmp" / f"{name}.snmprec")
        device = snmp.Device(tmp_path / name, rows)
        device.start()
        try:
            with v2c(device) as plain:
                walked = [oid for oid, _ in plain.getbulk("1.3.6.1")]
        finally:
            device.stop()
        assert len(walked) == len({row.oid for row in rows if row.oid.startswith("1.3.6.1.")}), name


def test_every_recorded_walk_can_be_read(data: Path) -> None:
    walks = sorted((data / "snmp").glob("*.snmprec"))
    assert walks
    assert all(len(snmp.read_recording(walk)) > 10 for walk in walks)


def test_a_port_in_use_and_a_bad_recording_are_one_line(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((snmp.LOOPBACK, 0))
        device = snmp.pdu(tmp_path / "pdu", port=taken.getsockname()[1])
        with pytest.raises(LabError, match="Address already in use"):
            device.start()
    assert not device.running()
    bad = tmp_path / "bad.snmprec"
    bad.write_text("1.3.6|4|fine\nnonsense\n")
    with pytest.raises(LabError, match=r"bad\.snmprec:2: 'nonsense'"):
        snmp.read_recording(bad)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snmp, "PACKAGES", ["snmpsim", "no_such_module"])
    with pytest.raises(LabError, match="pip install no_such_module"):
        snmp.pdu(tmp_path).start()


def test_stopping_leaves_no_child_and_can_be_done_twice(tmp_path: Path) -> None:
    device = snmp.pdu(tmp_path)
    device.start()
    assert device.running()
    device.stop()
    assert not device.running()
    device.stop()


def test_another_process_finds_it_by_its_folder_and_a_new_start_keeps_its_values(pdu: snmp.Device) -> None:
    other = snmp.Device(pdu.folder)
    assert other.running()
    assert other.port == pdu.port
    other.switch_outlet(1, on=False)
    other.stop()
    assert not pdu.running()
    pdu.start()
    with v2c(pdu) as plain:
        assert plain.get(f"{snmp.OUTLET_STATE}.1") == 1
