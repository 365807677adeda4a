"""What a host's software may rely on: files as kernels write them, and lscpu's words for the same machines."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import trust
from collectors.run import run
from collectors.trust import PCRS, parse_chosen, parse_microcode, parse_taint
from machine.capture import Captured, Recording
from machine.live import Live
from tests.collectors.conftest import unpacker, write
from wire.facts import Trust
from wire.report import Severity, Status

TPM = "sys/class/tpm/tpm0"
EFIVARS = "sys/firmware/efi/efivars"
GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
INTRUSION = "sys/class/hwmon/hwmon3"


def fact(machine: Live | Captured) -> Trust:
    (found,) = run(trust, machine, 0).facts
    assert isinstance(found, Trust)
    return found


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """A machine with a TPM 2.0 that measured its boot by UEFI with Secure Boot, locked down, behind an IOMMU."""
    files: dict[str, str | bytes] = {
        f"{TPM}/tpm_version_major": "2\n",
        f"{TPM}/device/description": "TPM 2.0 Device\n",
        "sys/kernel/security/tpm0/binary_bios_measurements": b"\0\0\0\0\3",
        "sys/kernel/security/lockdown": "none [integrity] confidentiality\n",
        "sys/kernel/security/lsm": "lockdown,capability,yama,apparmor",
        f"{EFIVARS}/SecureBoot-{GLOBAL}": b"\6\0\0\0\1",
        f"{EFIVARS}/SetupMode-{GLOBAL}": b"\6\0\0\0\0",
        "sys/module/module/parameters/sig_enforce": "Y\n",
        "sys/class/iommu/dmar0/x": "",
        "sys/class/iommu/dmar1/x": "",
        "proc/sys/kernel/tainted": "12289\n",
        "proc/cpuinfo": "processor\t: 0\nmicrocode\t: 0x2b000603\n\nprocessor\t: 1\nmicrocode\t: 0x2b000603\n",
    }
    files |= {f"{TPM}/pcr-sha1/{at}": f"{at:02X}" * 20 + "\n" for at in range(24)}
    files |= {f"{TPM}/pcr-sha256/{at}": f"{at:02X}" * 32 + "\n" for at in range(24)}
    files |= {f"sys/kernel/iommu_groups/{at}/type": ("DMA-FQ", "identity")[at % 3 == 0] + "\n" for at in range(6)}
    write(tmp_path, files)
    return tmp_path


def test_a_measured_and_locked_server(server: Path) -> None:
    found = fact(Live(str(server)))
    assert (found.tpm, found.tpm_device, found.pcr_banks) == ("2.0", "TPM 2.0 Device", ["sha1", "sha256"])
    assert found.pcrs == {f"sha256:{at}": f"{at:02x}" * 32 for at in PCRS}
    assert (found.event_log, found.secure_boot, found.setup_mode, found.lockdown) == (True, True, False, "integrity")
    assert (found.module_signatures, found.lsm) == (True, ["lockdown", "capability", "yama", "apparmor"])
    assert (found.iommu, found.iommu_domains) == (["dmar0", "dmar1"], {"DMA-FQ": 4, "identity": 2})
    assert found.taint == ["proprietary module", "out-of-tree module", "unsigned module"]
    assert found.microcode == ["0x2b000603"]


def test_a_redacted_capture_tells_the_same(server: Path) -> None:
    recording = Recording(Live(str(server)))
    found = fact(recording)  # type: ignore[arg-type]
    assert fact(Captured(recording.dump())) == found


def test_without_tpm_uefi_and_iommu_that_is_said(tmp_path: Path) -> None:
    write(tmp_path, {"proc/sys/kernel/tainted": "0\n", "proc/cpuinfo": "microcode\t: 0x1\n"})
    assert fact(Live(str(tmp_path))) == Trust(microcode=["0x1"])
    write(tmp_path, {"proc/cpuinfo": ""})
    assert run(trust, Live(str(tmp_path)), 0).status is Status.ABSENT


def test_a_tpm_without_a_log_and_without_readable_registers(tmp_path: Path) -> None:
    write(tmp_path, {f"{TPM}/tpm_version_major": "1\n", "sys/kernel/security/lockdown": "[none] integrity\n"})
    found = fact(Live(str(tmp_path)))
    assert (found.tpm, found.pcr_banks, found.pcrs, found.event_log) == ("1.2", [], {}, False)
    assert found.lockdown == "none"


@pytest.mark.parametrize("content", [b"", b"\6\0\0\0", b"\6\0\0\0\1\1"])
def test_a_variable_of_another_size_is_no_answer(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, {f"{EFIVARS}/SecureBoot-{GLOBAL}": content, f"{TPM}/x": ""})
    assert fact(Live(str(tmp_path))).secure_boot is None


# -- real machines -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bugs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Live]:
    """The vulnerabilities alone of a tarball."""
    return unpacker(data, tmp_path_factory, r"/vulnerabilities/")


@pytest.mark.parametrize("name", ["x86_64-epyc_7451", "vmware_fpe", "arm-A510-A710-A715-X3"])
def test_vulnerabilities_are_those_of_lscpu(data: Path, bugs: Callable[[str], Live], name: str) -> None:
    folder = "numa-topology/util-linux-lscpu"
    listed = re.findall(r"^Vulnerability ([^:]+):\s+(.*)$", (data / folder / f"lscpu-{name}").read_text(), re.MULTILINE)
    expected = {bug.lower().replace(" ", "_"): said for bug, said in listed if said != "Not affected"}
    assert listed
    result = run(trust, bugs(f"{folder}/{name}.tar.gz"), 0)
    found = next((fact.vulnerabilities for fact in result.facts if isinstance(fact, Trust)), {})
    # lscpu has a semicolon for the first colon, and drops those that follow
    assert {bug: plain(said) for bug, said in found.items()} == {bug: plain(said) for bug, said in expected.items()}


def plain(text: str) -> str:
    return re.sub(r"[:;]", "", text)


def test_node_exporters_machine(exporter: Live) -> None:
    found = fact(exporter)
    assert set(found.vulnerabilities) == {"mds", "retbleed", "spectre_v1", "spectre_v2"}
    assert found.vulnerabilities["mds"] == "Vulnerable"


def test_a_switch_that_was_opened_since_power_on_is_a_fact_and_no_event(exporter: Live) -> None:
    result = run(trust, exporter, 0)
    assert fact(exporter).intrusion == ["nct6779/intrusion0", "nct6779/intrusion1"]
    assert result.events == []


def test_a_chassis_that_is_opened_now_is_an_event_once(tmp_path: Path) -> None:
    machine = Live(str(tmp_path))
    write(tmp_path, {f"{INTRUSION}/name": "nct6779\n", f"{INTRUSION}/intrusion0_alarm": "0\n", f"{TPM}/x": ""})
    assert run(trust, machine, 0).events == []
    write(tmp_path, {f"{INTRUSION}/intrusion0_alarm": "1\n"})
    (event,) = run(trust, machine, 0).events
    assert (event.kind, event.key, event.severity) == ("trust.intrusion", "nct6779/intrusion0", Severity.WARNING)
    assert run(trust, machine, 0).events == []
    assert fact(machine).intrusion == ["nct6779/intrusion0"]


# -- text --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        ("0", []),
        ("512", ["warning"]),
        ("16", ["machine check"]),
        (str(1 << 21), ["bit 21"]),
        ("-1", []),
        ("", []),
        ("x", []),
    ],
)
def test_taint_has_words(mask: str, words: list[str]) -> None:
    assert parse_taint(mask) == words


def test_cpus_with_different_microcode_are_seen() -> None:
    assert parse_microcode("microcode\t: 0x2\nmicrocode : 0x1\nmicrocode\t: 0x2\n") == ["0x1", "0x2"]


@given(st.text(max_size=60), st.integers(0, 1 << 63))
def test_any_text_has_an_answer(text: str, mask: int) -> None:
    parse_chosen(text)
    parse_microcode(text)
    parse_taint(text)
    assert len(parse_taint(str(mask))) == mask.bit_count()
