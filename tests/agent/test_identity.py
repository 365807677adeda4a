"""The id stays, comes from hardware that says who it is, and never from a vendor's placeholder."""

from pathlib import Path

import pytest

from agent import identity
from machine.live import Live
from wire.report import Fingerprint
from wire.topics import is_id

UUID = "4c4c4544-0042-3510-8052-c7c04f4d3732"


@pytest.mark.parametrize(
    "text",
    [
        "00000000-0000-0000-0000-000000000000",
        "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
        "03000200-0400-0500-0006-000700080009",
        "Default string",
        "",
    ],
)
def test_placeholder_uuids(text: str) -> None:
    assert identity.sane_uuid(text) == ""


def test_uuid_is_told_in_lower_case() -> None:
    assert identity.sane_uuid(UUID.upper()) == UUID


@pytest.mark.parametrize(
    "text", ["To Be Filled By O.E.M.", "Default string", "System Serial Number", "0000000000", "None", "N/A", "x", ""]
)
def test_placeholder_serials(text: str) -> None:
    assert identity.sane_serial(text) == ""


def test_serial() -> None:
    assert identity.sane_serial(" 7B2K4Q3 ") == "7B2K4Q3"


def test_same_hardware_same_id_after_a_reinstall(tmp_path: Path) -> None:
    fingerprint = Fingerprint(dmi_uuid=UUID, machine_id="a")
    one = identity.load(tmp_path / "one", fingerprint)
    two = identity.load(tmp_path / "two", Fingerprint(dmi_uuid=UUID, machine_id="b"))
    assert one == two
    assert one.source == "dmi"
    assert is_id(one.host_id)


def test_serials_do_when_there_is_no_uuid() -> None:
    fingerprint = Fingerprint(product_serial="7B2K4Q3", board_serial="CN1234567")
    assert identity.derive(fingerprint) == identity.derive(fingerprint)
    assert identity.derive(Fingerprint(product_serial="7B2K4Q3")).source == "random"


def test_id_stays_when_the_hardware_changes(tmp_path: Path) -> None:
    first = identity.load(tmp_path, Fingerprint())
    assert first.source == "random"
    assert identity.load(tmp_path, Fingerprint(dmi_uuid=UUID)) == first


@pytest.mark.parametrize("content", [b"", b"{", b'{"host_id": "Not An Id", "source": "dmi"}', b"\xff\xfe"])
def test_damaged_file_is_an_error_and_not_a_second_host(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "identity.json").write_bytes(content)
    with pytest.raises(identity.IdentityError, match=r"identity\.json.*remove it to be a new host"):
        identity.load(tmp_path, Fingerprint(dmi_uuid=UUID))
    assert (tmp_path / "identity.json").read_bytes() == content


def test_fingerprint_leaves_placeholders_out(tmp_path: Path) -> None:
    folder = tmp_path / "sys/class/dmi/id"
    folder.mkdir(parents=True)
    (folder / "product_uuid").write_text("00000000-0000-0000-0000-000000000000\n")
    (folder / "product_serial").write_text("To Be Filled By O.E.M.\n")
    (folder / "board_serial").write_text("CN1234567\n")
    fingerprint = identity.read_fingerprint(Live(str(tmp_path)))
    assert fingerprint == Fingerprint(board_serial="CN1234567")


def test_this_machine_has_a_fingerprint() -> None:
    fingerprint = identity.read_fingerprint(Live())
    assert fingerprint.macs == sorted(fingerprint.macs)
    assert identity.boot_id(Live())
    assert identity.hostname(Live())
