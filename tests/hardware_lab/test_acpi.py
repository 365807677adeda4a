"""The ACPI table's text and the page of values behind it; tests/lab/test_platform.py has the kernel read both."""

import re
import struct
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_lab import acpi
from hardware_lab.failure import LabError


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    """A node's memory, all zeros."""
    path = tmp_path / "mem0"
    with path.open("wb") as file:
        file.truncate(640 << 20)
    return path


def latches(text: str) -> list[int]:
    """The port of each CPU's P-state, in order."""
    return [int(port, 16) for port in re.findall(r"_PCT, Package \(\) \{ [^,]*SystemIO, 8, 0, 0x(..)", text)]


def test_every_cpu_has_p_states_of_its_own_as_long_as_there_are_latches() -> None:
    text = acpi.table(4)
    assert re.findall(r"External \((.*), DeviceObj\)", text) == [f"\\_SB.CPUS.C00{cpu}" for cpu in range(4)]
    assert latches(text) == [0x81, 0x82, 0x83, 0x87]
    assert "_PSD" not in text
    assert "@" not in text


def test_more_cpus_than_latches_share_them() -> None:
    text = acpi.table(13)
    assert latches(text) == [port for port in acpi.LATCHES[:7] for _ in range(2)][:13]
    domains = re.findall(r"_PSD, Package \(\) \{ Package \(\) \{ 5, 0, (\d), 0xFC, (\d+)", text)
    assert domains == [(str(cpu // 2), "2") for cpu in range(12)]  # the last has its latch alone


@settings(deadline=None)
@given(st.integers(1, 300))
def test_every_cpu_has_a_latch_and_each_domain_its_number_of_cpus(cpus: int) -> None:
    scopes = acpi.table(cpus).split("Scope (\\_SB.CPUS.")[1:]
    ports = [latches(scope)[0] for scope in scopes]
    assert len(scopes) == cpus
    assert set(ports) <= set(acpi.LATCHES)
    for scope, port in zip(scopes, ports, strict=True):
        together = re.search(r"_PSD, .* 0xFC, (\d+) \}", scope)
        assert (int(together[1]) if together else 1) == ports.count(port)


def test_too_many_cpus_are_refused() -> None:
    with pytest.raises(LabError, match="at most 4095"):
        acpi.table(5000)


def test_the_table_and_the_struct_name_the_same_places() -> None:
    declared = [int(offset, 16) for offset in re.findall(r"\w{4}, 32,?\s+// 0x(..)", acpi.SOURCE.read_text())]
    assert declared == [field.offset for field in acpi.FIELDS.values()] == list(range(0, 4 * len(declared), 4))
    assert list(acpi.FIELDS) == list(get_args(acpi.Name)) == list(acpi.Readings.__struct_fields__)


def test_values_lie_in_memory_as_the_table_reads_them(memory: Path) -> None:
    with acpi.Values(memory) as values:
        values.fill()
        values.set("cpu_c", 88.5)
        assert values.get("cpu_c") == 88.5
    with memory.open("rb") as file:
        file.seek(acpi.PAGE)
        assert struct.unpack("<8I", file.read(32)) == (3617, 3112, 312000, 500000, 0, 5400, 3782, 3632)


@settings(deadline=None)
@given(celsius=st.floats(-100, 1000), watts=st.floats(0, 4_000_000), level=st.integers(0, 100))
def test_what_is_set_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, celsius: float, watts: float, level: int
) -> None:
    path = tmp_path_factory.mktemp("memory") / "mem0"
    with path.open("wb") as file:
        file.truncate(acpi.PAGE + 4096)
    with acpi.Values(path) as values:
        values.fill(acpi.Readings(board_c=celsius, power_w=watts, fan_level=level))
        found = values.all()
    assert (found.board_c, found.power_w, found.fan_level) == pytest.approx((celsius, watts, level), abs=0.051)


def test_a_value_beyond_the_page_is_refused(memory: Path) -> None:
    with acpi.Values(memory) as values, pytest.raises(LabError, match="cpu_c cannot be -300"):
        values.set("cpu_c", -300)


def test_a_memory_without_the_page_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mem0").write_bytes(bytes(4096))
    with pytest.raises(LabError, match="holds no page of sensor values"):
        acpi.Values(tmp_path / "mem0")
    with pytest.raises(LabError, match="No such file"):
        acpi.Values(tmp_path / "none")


def test_what_qemu_is_told(tmp_path: Path) -> None:
    assert acpi.devices(tmp_path) == ["-acpitable", f"file={tmp_path}/server.aml"]
    assert acpi.watchdog() == ["-device", "i6300esb,id=wdt,bus=pcie.0", "-action", "watchdog=reset"]
