"""Firmware: rows of real trees, devlink's answers, ESRT, and drives that stay themselves over reboots."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import firmware
from collectors.firmware import describe, parse_attempt, parse_place
from collectors.run import run
from machine import MachineError, Reply, devlink, nla
from machine.capture import Captured, Recording
from machine.devlink import parse_info
from machine.live import Live
from tests.collectors.conftest import unpacker, write
from wire.facts import Firmware
from wire.report import Status

ESRT = "sys/firmware/efi/esrt/entries/entry0"


def rows(machine: Live | Captured | Recording) -> dict[str, Firmware]:
    result = run(firmware, machine, 0)
    found = [fact for fact in result.facts if isinstance(fact, Firmware)]
    assert len({fact.key for fact in found}) == len(found)
    return {fact.key: fact for fact in found}


def version(kind: int, name: str, value: str) -> bytes:
    return nla.nest(kind, nla.text(103, name), nla.text(104, value))


MLX5 = b"".join(
    (
        nla.text(1, "pci"),
        nla.text(2, "0000:3b:00.0"),
        nla.text(98, "mlx5_core"),
        nla.text(99, "MT2042X12345"),
        nla.text(146, "BRD0001"),
        version(100, "fw.psid", "MT_0000000425"),
        version(101, "fw.version", "16.35.2000"),
        version(102, "fw.version", "16.35.3006"),
        version(101, "fw", "16.35.2000"),
        version(102, "fw", "16.35.3006"),
    )
)


class WithDevlink(Live):
    """A machine of files whose kernel answers devlink."""

    def genl(self, family: str, command: int, payload: bytes, *, dump: bool = False) -> list[Reply]:
        assert (family, command, payload, dump) == ("devlink", 51, b"", True)
        return [Reply(51, MLX5)]


def test_a_nic_whose_next_reset_runs_another_version(tmp_path: Path) -> None:
    found = rows(WithDevlink(str(tmp_path)))
    assert set(found) == {f"nic/0000:3b:00.0/{part}" for part in ("fw", "fw.psid", "fw.version")}
    one = found["nic/0000:3b:00.0/fw"]
    assert (one.type, one.device, one.name, one.part) == ("nic", "0000:3b:00.0", "mlx5_core", "fw")
    assert (one.running, one.stored, one.fixed) == ("16.35.2000", "16.35.3006", "")
    assert found["nic/0000:3b:00.0/fw.psid"].fixed == "MT_0000000425"


def test_a_virtual_function_has_no_firmware_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "sys/bus/pci/devices/0000:3b:00.0"
    folder.mkdir(parents=True)
    (folder / "physfn").symlink_to("../0000:3a:00.0")
    assert run(firmware, WithDevlink(str(tmp_path)), 0).status is Status.ABSENT


def test_a_redacted_capture_has_the_versions_and_no_serial_number(tmp_path: Path) -> None:
    recording = Recording(WithDevlink(str(tmp_path)))
    before = rows(recording)
    text = recording.dump()
    assert rows(Captured(text)) == before
    for secret in (b"MT2042X12345", b"BRD0001"):
        assert secret.hex() in recording.dump(redact=False)
        assert secret.hex() not in text


def test_a_device_that_is_on_no_pci_bus_and_one_that_lists_without_end() -> None:
    many = {f"fw.{at:03}": "1" for at in range(500)}
    found = describe(devlink.Info("netdevsim", "netdevsim7", "netdevsim", {}, many, {}))
    assert len(found) == firmware.MOST_PARTS
    assert found[0].key == "nic/netdevsim/netdevsim7/fw.000"


# -- real trees --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flashed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Live]:
    """What of a tarball has versions in it."""
    files = r"(?:rev|model|vendor|transport|firmware_rev|fw_platform_size|bios_\w+|nvme\d+|device)$"
    return unpacker(
        data, tmp_path_factory, rf"/{files}|class/(?:block|nvme|dmi)/[^/]+$|/block/s\w+$|/ata\d+/|/host\d+/"
    )


def test_nvme_controllers_of_a_real_machine(flashed: Callable[[str], Live], data: Path) -> None:
    live = flashed("sysfs-procfs/nvme-sysfs/tree-pcie.tar.xz")
    shutil.rmtree(Path(live.root) / "sys/class/block", ignore_errors=True)
    found = rows(live)
    assert set(found) == {"nvme/052e:78:00.0", "nvme/058e:78:00.0", "nvme/0214:90:00.0"}
    assert all(row.running and row.name and row.type == "nvme" for row in found.values())


def test_node_exporters_nvme(exporter: Live) -> None:
    found = rows(exporter)
    assert [row.running for key, row in found.items() if key.startswith("nvme/")] == ["1B2QEXP7"]


@pytest.mark.parametrize(
    ("name", "bios", "drives"),
    [
        ("40intel64-2g2n4c+pcilocality", True, 1),
        ("32em64t-2n8c+dax+nvme+mic+dimms", True, 1),
        ("2pa-pcidomain32bits", True, 0),
        ("64amd64-4s2n4ca2co", True, 0),
    ],
)
def test_bios_and_drives_of_real_servers(flashed: Callable[[str], Live], name: str, bios: bool, drives: int) -> None:
    live = flashed(f"numa-topology/hwloc/{name}.tar.bz2")
    found = rows(live)
    assert ("bios" in found) is bios
    assert sum(key.startswith("drive/") for key in found) >= drives
    for key, row in found.items():
        assert row.running == row.running.strip() != ""
        assert not key.startswith("drive/") or "0000:" in key


# -- places and texts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/sys/devices/pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0", "0000:00:17.0-ata1"),
        ("/sys/devices/pci0000:16/0000:16:02.0/0000:17:00.0/host6/target6:0:5/6:0:5:0", "0000:17:00.0-0:5:0"),
        ("/sys/devices/platform/host3/target3:0:1/3:0:1:7", ""),
        ("", ""),
    ],
)
def test_a_drive_is_where_it_is(path: str, place: str) -> None:
    assert parse_place(path) == place


def test_what_uefi_can_update(tmp_path: Path) -> None:
    said = {
        "fw_class": "6BAF0B9A-1D5B-4E0A-9E5C-0A1B2C3D4E5F",
        "fw_type": "1",
        "fw_version": "65586",
        "lowest_supported_fw_version": "65536",
        "last_attempt_version": "65590",
        "last_attempt_status": "6",
    }
    write(tmp_path, {f"{ESRT}/{name}": f"{text}\n" for name, text in said.items()})
    (found,) = rows(Live(str(tmp_path))).values()
    assert found == Firmware(
        key="esrt/6baf0b9a-1d5b-4e0a-9e5c-0a1b2c3d4e5f",
        type="esrt",
        part="system",
        running="65586",
        lowest="65536",
        last_attempt="65590 no AC power",
    )


@pytest.mark.parametrize(
    ("version_", "status", "said"),
    [(None, None, ""), (0, 0, ""), (7, 0, "7 succeeded"), (7, None, "7 succeeded"), (7, 99, "7 status 99")],
)
def test_how_the_last_update_went(version_: int | None, status: int | None, said: str) -> None:
    assert parse_attempt(version_, status) == said


@pytest.mark.parametrize(("size", "boot"), [("64\n", "uefi 64-bit"), ("", "uefi"), (None, "legacy")])
def test_by_which_way_it_booted(tmp_path: Path, size: str | None, boot: str) -> None:
    write(tmp_path, {"sys/class/dmi/id/bios_version": "2.19.1\n", "sys/class/dmi/id/bios_date": "06/04/2024\n"})
    if size is not None:
        write(tmp_path, {"sys/firmware/efi/fw_platform_size": size})
    assert rows(Live(str(tmp_path)))["bios"] == Firmware(
        key="bios", type="bios", running="2.19.1", date="06/04/2024", boot=boot
    )


def test_a_drive_that_is_hostile_and_a_fabric_that_is_elsewhere(tmp_path: Path) -> None:
    write(
        tmp_path, {"sys/class/nvme/nvme0/firmware_rev": "1.0\x1b[31m\n" + "A" * 900, "sys/class/nvme/nvme0/model": "\a"}
    )
    write(tmp_path, {"sys/class/nvme/nvme1/firmware_rev": "1.0\n", "sys/class/nvme/nvme1/transport": "tcp\n"})
    (found,) = rows(Live(str(tmp_path))).values()
    assert found.device == "nvme0"
    assert found.running.isprintable()
    assert found.name.isprintable()
    assert len(found.running) <= 32


def test_a_machine_without_any_is_absent(tmp_path: Path) -> None:
    assert run(firmware, Live(str(tmp_path)), 0).status is Status.ABSENT


@given(st.binary(max_size=120) | st.binary(max_size=40).map(lambda tail: MLX5 + tail))
def test_any_bytes_of_devlink_are_versions_or_one_clear_error(payload: bytes) -> None:
    try:
        info = parse_info(payload)
    except MachineError as error:
        assert "netlink attribute" in str(error)
        return
    for row in describe(info):
        assert row.key.isprintable()
        assert row.running.isprintable()


@given(st.text(max_size=60))
def test_any_path_is_a_place(path: str) -> None:
    parse_place(path)
