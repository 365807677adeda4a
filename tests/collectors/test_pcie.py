"""PCI Express: registers of real machines against what lspci says of them, AER's counts, and their edges."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import pcie
from collectors.pcie import RUNS_KEPT, parse_errors
from collectors.run import run
from machine import pciconfig
from machine.capture import Captured, Recording
from machine.live import Live
from tests.collectors.conftest import unpacker, write
from wire.facts import Pcie
from wire.report import Event, Sample, Severity, Status

DEVICES = "sys/bus/pci/devices"
NIC, PORT = "0000:4b:00.0", "0000:4a:02.0"
HEX = re.compile(r"^[0-9a-f]{2,3}: ((?:[0-9a-f]{2} ?){16})\s*$", re.MULTILINE)
DEVICE = re.compile(r"\n(?=(?:[0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.\d )")
TYPES = {
    "Endpoint": "endpoint",
    "Legacy Endpoint": "legacy endpoint",
    "Root Port": "root port",
    "Upstream Port": "upstream port",
    "Downstream Port": "downstream port",
    "Root Complex Integrated Endpoint": "integrated endpoint",
    "PCI/PCI-X to PCI-Express Bridge": "bridge from PCI",
}
ACS = dict(
    zip(
        ["SrcValid", "TransBlk", "ReqRedir", "CmpltRedir", "UpstreamFwd", "EgressCtrl", "DirectTrans"],
        pciconfig.SERVICES.values(),
        strict=True,
    )
)


def dumps(data: Path) -> Iterator[tuple[str, str, bytes]]:
    """Every function that pciutils' own tests have: where from, lspci's words, its configuration space."""
    for path in sorted((data / "dmi-lshw-lspci/pciutils").iterdir()):
        for text in DEVICE.split(path.read_text(errors="replace")):
            if config := bytes.fromhex("".join(HEX.findall(text))):
                yield f"{path.name} {text[:12].split()[0]}", text, config


def flags(line: str, words: dict[str, str]) -> list[str]:
    """The words for what lspci shows with a plus."""
    return [words.get(name, name) for name in re.findall(r"(\w+)\+", line)]


def test_registers_say_what_lspci_says(data: Path) -> None:
    checked = 0
    for name, text, config in dumps(data):
        found = re.search(r"Express \(v\d\) ([^,\n(]*?)(?: \(Slot[+-]\))?,", text)
        if not found:
            continue
        express = pciconfig.parse_express(config)
        assert express, name
        assert express.type == TYPES[found[1]], name
        sizes = re.search(r"MaxPayload (\d+) bytes, MaxReadReq (\d+) bytes", text)
        assert sizes
        assert [express.max_payload_bytes, express.max_read_request_bytes] == [int(sizes[1]), int(sizes[2])], name
        capable = re.search(r"DevCap:\s+MaxPayload (\d+)", text)
        assert capable
        assert express.max_payload_capable_bytes == int(capable[1])
        if link := re.search(r"LnkSta:\s+Speed ([\d.]+|unknown)(?:GT/s)?(?: \(\w+\))?, Width x(\d+)", text):
            assert express.link_width == (int(link[2]) or None), name
            assert express.link_speed_gts == (float(link[1]) if link[1] != "unknown" else None), name
        if aspm := re.search(r"LnkCtl:\s+ASPM (.*?)(?: Enabled|;|\n)", text):
            assert express.aspm == [word for word in aspm[1].split() if word.startswith("L")], name
        if len(config) > 256:
            acs = re.search(r"ACSCtl:\s*(.*)", text)
            assert express.acs == (flags(acs[1], ACS) if acs else None), name
            masked = re.search(r"CEMsk:\s*(.*)", text)
            assert express.aer is bool(masked), name
            said = masked[1].replace("AdvNon", "Non") if masked else ""
            shown = [kind for kind in express.aer_masked if kind in said]  # an old lspci knows fewer kinds
            assert shown == flags(said, {}), name
        checked += 1
    assert checked >= 16


def test_no_card_in_a_slot_is_no_link(data: Path) -> None:
    empty = {name: config for name, text, config in dumps(data) if "Width x0" in text}
    assert empty
    for config in empty.values():
        express = pciconfig.parse_express(config)
        assert express
        assert (express.link_speed_gts, express.link_width) == (None, None)


def test_a_chipset_that_shows_its_first_bytes_again_has_no_extended_capabilities(data: Path) -> None:
    (config,) = [config for name, _, config in dumps(data) if name.startswith("broken-ecaps")]
    assert len(config) == 4096
    assert config[256:260] == config[:4]
    assert pciconfig.extended(config) == {}


def test_conventional_pci_and_the_first_64_bytes_tell_nothing(data: Path) -> None:
    whole = (data / "dmi-lshw-lspci/libvirt-pciconfig/0001-00-00.0.config").read_bytes()
    old = (data / "dmi-lshw-lspci/libvirt-pciconfig/0000-06-12.0.config").read_bytes()
    assert pciconfig.parse_express(whole)
    assert pciconfig.parse_express(whole[:64]) is None
    assert pciconfig.parse_express(old) is None
    first = pciconfig.parse_express(whole[:256])
    assert first
    assert (first.type, first.aer, first.acs) == ("root port", None, None)


def test_what_a_capture_keeps_of_a_function_is_all_but_its_serial_number(data: Path) -> None:
    named = 0
    for _, _, config in dumps(data):
        public = pciconfig.without_serial(config)
        at = pciconfig.extended(config).get(pciconfig.SERIAL)
        named += at is not None
        assert pciconfig.parse_express(public) == pciconfig.parse_express(config)
        assert at is None or public[at + 4 : at + 12] == bytes(8)
        assert len(public) == len(config)
    assert named >= 4


@given(st.binary(max_size=400), st.binary(max_size=64))
def test_any_bytes_are_a_configuration_or_none(config: bytes, more: bytes) -> None:
    for bytes_ in (config, config.ljust(256, b"\0") + more, b"\x86\x80\1\1\0\0\x10\0" + config):
        pciconfig.parse_express(bytes_)
        assert len(pciconfig.without_serial(bytes_)) == len(bytes_)


@given(st.text(max_size=200) | st.text(st.sampled_from("RxErr TOAL_0123456789\n")))
def test_any_text_is_counts_or_none(text: str) -> None:
    assert all(count >= 0 for count in parse_errors(text).values())


# -- whole machines ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "links"),
    [
        ("numa-topology/hwloc/40intel64-2g2n4c+pcilocality.tar.bz2", 3),
        ("sysfs-procfs/nfd/pci-rootfs-1.tar.gz", 3),
    ],
)
def test_who_may_read_64_bytes_sees_the_links_alone(
    data: Path, tmp_path_factory: pytest.TempPathFactory, name: str, links: int
) -> None:
    tree = unpacker(data, tmp_path_factory, r"/(?:config|current_link_\w+)$|bus/pci/devices/[^/]+$")
    result = run(pcie, tree(name), 0)
    facts = [fact for fact in result.facts if isinstance(fact, Pcie)]
    assert len({fact.key for fact in facts}) == len(facts) == links
    assert {(fact.type, fact.aer) for fact in facts} == {("", None)}
    assert all(fact.link_speed_gts for fact in facts)
    assert result.samples == []


def test_node_exporters_devices_count_no_error(exporter: Live) -> None:
    result = run(pcie, exporter, 0)
    assert result.status is Status.OK, result.reason
    assert {sample.key for sample in result.samples} == {"0000:01:00.0", "0000:45:00.0"}
    assert {(sample.metric, sample.value) for sample in result.samples} == {
        ("pcie.correctable_errors", 0),
        ("pcie.nonfatal_errors", 0),
        ("pcie.fatal_errors", 0),
    }
    link = {fact.key: (fact.link_speed_gts, fact.link_width) for fact in result.facts if isinstance(fact, Pcie)}
    assert link["0000:45:00.0"] == (5.0, 4)


def counts(correctable: int, nonfatal: int, fatal: int) -> dict[str, str]:
    return {
        "aer_dev_correctable": f"RxErr {correctable}\nBadTLP 0\nTOTAL_ERR_COR {correctable}\n",
        "aer_dev_nonfatal": f"CmpltTO {nonfatal}\nTOTAL_ERR_NONFATAL {nonfatal}\n",
        "aer_dev_fatal": f"MalfTLP {fatal}\nTOTAL_ERR_FATAL {fatal}\n",
    }


@pytest.fixture
def server(data: Path, tmp_path: Path) -> Path:
    """A NIC behind a root port, in slot 3."""
    config = (data / "dmi-lshw-lspci/libvirt-pciconfig/0001-01-00.0.config").read_bytes()
    port = (data / "dmi-lshw-lspci/libvirt-pciconfig/0001-00-00.0.config").read_bytes()
    above = f"sys/devices/pci0000:4a/{PORT}"
    files: dict[str, str | bytes] = {f"{above}/config": port, f"{above}/{NIC}/config": config}
    files |= {f"{above}/{NIC}/{name}": text for name, text in counts(0, 0, 0).items()}
    files |= {f"{above}/{NIC}/current_link_speed": "8.0 GT/s PCIe\n", f"{above}/{NIC}/current_link_width": "8\n"}
    files |= {f"{above}/aer_rootport_total_err_{name}": "0\n" for name in ("cor", "nonfatal", "fatal")}
    files |= {"sys/bus/pci/slots/3/address": "0000:4b:00\n", "sys/bus/pci/slots/9/address": "0000:99:00\n"}
    write(tmp_path, files)
    (tmp_path / DEVICES).mkdir(parents=True)
    (tmp_path / DEVICES / NIC).symlink_to(f"../../../devices/pci0000:4a/{PORT}/{NIC}")
    (tmp_path / DEVICES / PORT).symlink_to(f"../../../devices/pci0000:4a/{PORT}")
    return tmp_path


def events(machine: Live) -> list[Event]:
    return run(pcie, machine, 1).events


def test_a_device_its_port_its_slot_and_its_link(server: Path) -> None:
    result = run(pcie, Live(str(server)), 0)
    facts = {fact.key: fact for fact in result.facts if isinstance(fact, Pcie)}
    nic = facts[NIC]
    assert (nic.type, nic.parent, nic.slot, nic.link_speed_gts, nic.link_width) == ("endpoint", PORT, "3", 8.0, 8)
    assert (nic.max_payload_bytes, nic.max_payload_capable_bytes, nic.max_read_request_bytes) == (128, 256, 512)
    assert (facts[PORT].type, facts[PORT].parent, facts[PORT].slot) == ("root port", "", "")
    assert Sample("pcie.rootport_fatal_errors", PORT, 0) in result.samples
    assert Sample("pcie.fatal_errors", NIC, 0) in result.samples


def test_a_domain_of_five_digits_and_a_file_that_is_no_function(server: Path) -> None:
    above = "sys/devices/pci10000:e0/10000:e0:02.0"
    write(server, {f"{above}/10000:e1:00.0/config": (server / DEVICES / NIC / "config").read_bytes()})
    write(server, {f"{above}/config": b"", f"{DEVICES}/odd/config": b"x"})
    (server / DEVICES / "10000:e1:00.0").symlink_to(f"../../../../{above}/10000:e1:00.0")
    facts = {fact.key: fact for fact in run(pcie, Live(str(server)), 0).facts if isinstance(fact, Pcie)}
    assert set(facts) == {NIC, PORT, "10000:e1:00.0"}
    assert (facts["10000:e1:00.0"].type, facts["10000:e1:00.0"].parent) == ("endpoint", "10000:e0:02.0")


def test_a_virtual_function_has_no_row(server: Path) -> None:
    folder = server / f"sys/devices/pci0000:4a/{PORT}/0000:4b:10.0"
    folder.mkdir()
    (folder / "physfn").symlink_to(f"../{NIC}")
    (server / DEVICES / "0000:4b:10.0").symlink_to(f"../../../devices/pci0000:4a/{PORT}/0000:4b:10.0")
    assert {fact.key for fact in run(pcie, Live(str(server)), 0).facts} == {NIC, PORT}


def test_errors_that_were_there_are_no_event_and_new_ones_are_one_each(server: Path) -> None:
    machine = Live(str(server))
    folder = f"{DEVICES}/{NIC}"
    write(server, {f"{folder}/{name}": text for name, text in counts(7, 1, 0).items()})
    assert events(machine) == []
    assert events(machine) == []
    write(server, {f"{folder}/{name}": text for name, text in counts(9, 1, 1).items()})
    found = {event.data["severity"]: event for event in events(machine)}
    assert set(found) == {"correctable", "fatal"}
    assert found["correctable"].data == {"severity": "correctable", "errors": 2, "RxErr": 2}
    assert found["correctable"].text == f"2 correctable PCIe errors of {NIC} (RxErr 2)"
    assert (found["fatal"].severity, found["correctable"].severity) == (Severity.CRITICAL, Severity.INFO)
    assert {(event.kind, event.key) for event in found.values()} == {("pcie.error", NIC)}
    assert events(machine) == []
    assert events(Live(str(server))) == []


def test_a_fatal_error_that_only_the_root_port_saw_is_an_event_of_the_port(server: Path) -> None:
    machine = Live(str(server))
    assert events(machine) == []
    write(server, {f"{DEVICES}/{PORT}/aer_rootport_total_err_fatal": "2\n"})
    (event,) = events(machine)
    assert (event.key, event.severity, event.data["errors"]) == (PORT, Severity.CRITICAL, 2)


def test_the_configuration_is_read_now_and_then_and_of_another_driver_at_once(server: Path) -> None:
    reads: list[str] = []

    class Counting(Live):
        def read_bytes(self, path: str) -> bytes:
            if path.endswith(f"{NIC}/config"):
                reads.append(path)
            return super().read_bytes(path)

    machine = Counting(str(server))
    for _ in range(RUNS_KEPT + 1):
        run(pcie, machine, 0)
    assert len(reads) == 1
    run(pcie, machine, 0)
    assert len(reads) == 2
    (server / f"sys/devices/pci0000:4a/{PORT}/{NIC}/driver").symlink_to("../../../../bus/pci/drivers/vfio-pci")
    run(pcie, machine, 0)
    assert len(reads) == 3


def test_a_function_that_sleeps_is_not_woken(server: Path) -> None:
    write(server, {f"{DEVICES}/{NIC}/power/runtime_status": "suspended\n"})
    facts = {fact.key: fact for fact in run(pcie, Live(str(server)), 0).facts if isinstance(fact, Pcie)}
    assert (facts[NIC].type, facts[NIC].link_width) == ("", 8)
    assert facts[PORT].type == "root port"


def test_a_redacted_capture_tells_the_same(server: Path) -> None:
    recording = Recording(Live(str(server)))
    result = run(pcie, recording, 0)
    again = run(pcie, Captured(recording.dump()), 0)
    assert (again.facts, again.samples) == (result.facts, result.samples)
