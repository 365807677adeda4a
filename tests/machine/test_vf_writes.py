"""What is sent for virtual functions and firmware, as the kernel would tell it; the ledger; staged files."""

import hashlib
from pathlib import Path

import pytest

from machine import (
    MachineError,
    NotPresentError,
    UnsupportedError,
    VanishedError,
    flash,
    ledger,
    linkinfo,
    sriov,
    vfinfo,
)
from machine.change import LiveWriter
from machine.ledger import Entry
from wire.policy import Request
from wire.vf import TOGETHER, Settings

ADDRESS = "0000:3b:00.0"
DEVICE = f"pci/{ADDRESS}"
ASKED: Settings = {
    **{"mac": "02:00:00:00:00:04", "vlan_id": 100, "vlan_qos": 3, "vlan_protocol": "802.1ad"},
    **{"spoofchk": False, "trust": True, "min_tx_mbps": 10, "max_tx_mbps": 90, "link_state": "disable"},
}


def test_what_is_sent_is_what_the_kernel_tells_of_it() -> None:
    """A request to set has the attributes of IFLA_VF_INFO, which is read by other code."""
    sent = b"".join(vfinfo.encode(5, names, ASKED) for names in TOGETHER)
    heard = linkinfo.parse_vf(sent)
    assert heard.number == 5
    assert vfinfo.settings(heard) == ASKED


def test_no_mac_is_zeros_and_no_vlan_has_the_usual_protocol() -> None:
    assert vfinfo.encode(1, ("mac",), {"mac": ""})[8:14] == bytes(6)
    sent = vfinfo.encode(1, TOGETHER[1], {"vlan_id": 0, "vlan_qos": 0, "vlan_protocol": ""})
    assert sent[8 + 12 : 8 + 14] == bytes.fromhex("8100")


@pytest.fixture
def writer(tmp_path: Path) -> LiveWriter:
    """A device with two functions, below a folder: the kernel's answers to writes are not in it."""
    folder = tmp_path / f"sys/bus/pci/devices/{ADDRESS}"
    folder.mkdir(parents=True)
    (folder / "sriov_numvfs").write_text("2\n")
    for number in range(2):
        (folder / f"virtfn{number}").symlink_to(f"../0000:3b:01.{number}")
    return LiveWriter(str(tmp_path))


def test_functions_are_found_by_their_links(writer: LiveWriter) -> None:
    assert sriov.addresses(writer, DEVICE) == {0: "0000:3b:01.0", 1: "0000:3b:01.1"}
    assert sriov.read_count(writer, DEVICE) == 2


def test_functions_that_never_appear_are_told(writer: LiveWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sriov, "LIMIT_S", 0.0)
    with pytest.raises(MachineError, match="4 virtual functions were asked for, 2 came"):
        sriov.set_count(writer, DEVICE, 4)
    assert writer.read(f"/sys/bus/pci/devices/{ADDRESS}/sriov_numvfs") == "4"


def test_a_device_that_is_gone_took_its_functions_along(writer: LiveWriter) -> None:
    op = Request("numvfs", {"vfs": 0, "settings": "", "owned": 0}, {"vfs": 1, "settings": "", "owned": 1}, item="pci/x")
    with pytest.raises(VanishedError):
        sriov.read(writer, op)
    Path(writer.path(f"/sys/bus/pci/devices/{ADDRESS}/sriov_numvfs")).unlink()
    with pytest.raises(UnsupportedError):
        sriov.read_count(writer, DEVICE)


def test_the_ledger_is_whole_and_forgets_what_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "PATH", str(tmp_path / "rackhand/ledger.json"))
    with LiveWriter() as writer:
        assert ledger.entry(writer, DEVICE) == Entry()
        ledger.write(writer, DEVICE, Entry(vfs=4))
        ledger.write(writer, "pci/0000:3b:00.1", Entry(unbound={"0000:3b:02.0": "iavf"}))
        assert ledger.entry(writer, DEVICE).vfs == 4
        ledger.write(writer, DEVICE, Entry())
        assert set(ledger.read(writer)) == {"pci/0000:3b:00.1"}
        (tmp_path / "rackhand/ledger.json").write_text("{torn")
        assert ledger.read(writer) == {}
    assert [path.name for path in (tmp_path / "rackhand").iterdir()] == ["ledger.json"]


def test_a_file_is_staged_as_it_was_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flash, "LOADED", tmp_path / "firmware")
    image = tmp_path / "new.bin"
    image.write_bytes(b"new firmware")
    digest = hashlib.sha256(b"new firmware").hexdigest()
    with flash.staged(str(image), digest.upper()) as name:
        assert (tmp_path / "firmware" / name).read_bytes() == b"new firmware"
    assert list((tmp_path / "firmware/rackhand").iterdir()) == []
    with pytest.raises(MachineError, match="nothing was flashed"), flash.staged(str(image), "0" * 64):
        pass
    with pytest.raises(NotPresentError), flash.staged(str(tmp_path / "none"), digest):
        pass
