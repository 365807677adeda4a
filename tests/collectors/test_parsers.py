"""The pure parsers on the oddities that real machines print."""

from collections.abc import Callable
from pathlib import Path

import pytest

from collectors import chips, cpu, dmi, hwmon, links, memory, nic, nicstats, numa, pci, softnet, sysfs
from collectors.chips import Chip
from machine import ethtool
from machine.rtnl import Link

CHIP = Chip("0000:03:00.0", "nvme")


@pytest.mark.parametrize(
    ("text", "cpus"),
    [(" " * 100 + "(null)", ""), ("\0", ""), ("0-7\n\0", "0-7"), ("0-62:31", "0,31,62"), ("", ""), ("tomorrow", "")],
)
def test_cpu_lists(text: str, cpus: str) -> None:
    assert sysfs.normal_cpulist(text) == cpus


@pytest.mark.parametrize(("text", "cpus"), [("", None), ("zz", None), ("0", ""), ("3,00000001", "0,32-33")])
def test_cpu_masks(text: str, cpus: str | None) -> None:
    assert sysfs.mask_cpulist(text) == cpus


@pytest.mark.parametrize(
    ("text", "number"), [("-1", -1), ("12", 12), ("", None), ("-", None), ("1²", None), ("N/A", None)]
)
def test_numbers(text: str, number: int | None) -> None:
    assert sysfs.parse_number(text) == number


def test_pci_addresses_of_a_path_have_domains_of_any_length() -> None:
    path = "/sys/devices/pci0000:00/0000:00:0e.0/pci10000:00/10000:00:04.0/virtio3"
    assert sysfs.pci_addresses(path) == ["0000:00:0e.0", "10000:00:04.0"]


def test_dmi_texts() -> None:
    assert dmi.parse_os_release('NAME=x\nPRETTY_NAME="Debian GNU/Linux 12"\n') == "Debian GNU/Linux 12"
    assert [dmi.parse_arch(name) for name in ("5.14.0-427.el9_4.x86_64", "6.1.0-9-amd64", "6.8.0-31-generic")] == [
        "x86_64",
        "x86_64",
        "",
    ]


@pytest.mark.parametrize(
    ("cmdline", "cpus"),
    [
        ("quiet isolcpus=managed_irq,0-4,11-79", ""),
        ("isolcpus=domain,managed_irq,2-3,6", "2-3,6"),
        ("isolcpus=1-2 isolcpus=4", "4"),
        ("root=/dev/sda", ""),
    ],
)
def test_isolcpus(cmdline: str, cpus: str) -> None:
    assert cpu.parse_isolcpus(cmdline) == cpus


def test_models_of_every_architecture(data: Path) -> None:
    folder = data / "numa-topology/ohai"
    assert cpu.parse_model((folder / "cpuinfo-s390x.output").read_text()) == "IBM/S390 8561"
    assert cpu.parse_model((folder / "cpuinfo-ppc64le-p8-host.output").read_text()).startswith("POWER8E")
    assert "i7-4500U" in cpu.parse_model((folder / "cpuinfo-dual-core-hyperthreaded.output").read_text())
    assert cpu.parse_model("processor: 0\nCPU implementer: 0x41\nCPU part: 0xd0c\n") == "implementer 0x41 part 0xd0c"
    assert cpu.parse_model("") == ""


def test_distances_of_nodes_that_are_not_all_there() -> None:
    assert numa.parse_distances("10 21", [0, 1], [1]) == {"node0": 10, "node1": 21}
    assert numa.parse_distances("10 21", [], [3, 7]) == {"node3": 10, "node7": 21}
    assert numa.parse_distances("10 21", [0], [0]) == {}


def test_meminfo_and_the_chosen_word() -> None:
    assert memory.parse_meminfo("MemTotal:  1024 kB\nHugePages_Total:   4\nOdd line\n") == {
        "MemTotal": 1024,
        "HugePages_Total": 4,
    }
    assert [memory.parse_chosen(text) for text in ("always [madvise] never", "")] == ["madvise", ""]


@pytest.mark.parametrize(
    ("channel", "attributes", "limits"),
    [
        ("temp1", {"min": "-273150", "max": "65261850", "crit": "84850"}, (None, None, 84.85)),
        ("temp1", {"min": "0", "max": "120000", "crit": "110000"}, (0.0, None, None)),
        ("temp1", {"min": "104500", "max": "124500"}, (None, 124.5, None)),
        ("in1", {"min": "0", "max": "0"}, (None, None, None)),
        ("in0", {"min": "2970", "max": "3630"}, (2.97, 3.63, None)),
        ("fan2", {"min": "600"}, (600.0, None, None)),
        ("power1", {"max": "225000000", "crit": "rubbish"}, (None, 225.0, None)),
    ],
)
def test_limits_that_cannot_be_meant_are_none(
    channel: str, attributes: dict[str, str], limits: tuple[float | None, ...]
) -> None:
    assert tuple(chips.parse_limits(channel, attributes).values()) == limits


@pytest.mark.parametrize(
    ("channel", "attributes", "value"),
    [
        ("temp1", {"input": "36850"}, 36.85),
        ("temp1", {"input": "-62500"}, None),
        ("temp2", {"input": "0", "label": "PCH_CHIP_TEMP"}, None),
        ("temp3", {"input": "36850", "fault": "1"}, None),
        ("fan1", {"input": "1200", "enable": "0"}, None),
        ("power1", {"average": "120500000"}, 120.5),
        ("temp1", {"input": ""}, None),
    ],
)
def test_readings_that_cannot_be_meant_are_none(channel: str, attributes: dict[str, str], value: float | None) -> None:
    assert chips.parse_value(channel, attributes) == value


def test_an_alarm_needs_a_limit() -> None:
    assert hwmon.parse_channel(CHIP, "temp1", {"input": "1", "max": "90000", "max_alarm": "1"}).alarm
    assert not hwmon.parse_channel(CHIP, "in1", {"input": "1", "min": "0", "max": "0", "alarm": "1"}).alarm


@pytest.mark.parametrize(
    ("path", "device"),
    [
        ("/sys/devices/pci0000:00/0000:00:1d.0/0000:03:00.0/nvme/nvme0", "0000:03:00.0"),
        ("/sys/devices/platform/coretemp.1", "coretemp.1"),
        ("/sys/devices/pci0000:00/0000:00:17.0/ata3/host2/target2:0:0/2:0:0:0", "0000:00:17.0-ata3"),
        ("/sys/devices/pci0000:00/0000:00:1f.4/i2c-7/7-0018", "0000:00:1f.4-i2c-0018"),
        ("", "virtual"),
    ],
)
def test_sensors_are_named_after_what_stays_over_reboots(path: str, device: str) -> None:
    assert chips.parse_device(path) == device


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (pci.parse_speed, "16.0 GT/s PCIe", 16.0),
        (pci.parse_speed, "8 GT/s", 8.0),
        (pci.parse_speed, "Unknown", None),
        (pci.parse_speed, "0 GT/s", None),
        (pci.parse_width, "8", 8),
        (pci.parse_width, "0", None),
        (pci.parse_width, "255", None),
        (pci.parse_hex, "0x8086", "8086"),
        (pci.parse_hex, "8086", ""),
    ],
)
def test_pci_texts(parse: Callable[[str], object], text: str, value: object) -> None:
    assert parse(text) == value


def test_names_come_from_the_block_of_their_vendor(data: Path) -> None:
    text = (data / "sysfs-procfs/node_exporter/pci.ids").read_bytes()
    names = pci.parse_names(text, [("c0a9", "540a"), ("8086", "540a"), ("dead", "0001")])
    assert names["c0a9", "540a"].startswith("Micron/Crucial Technology P2 [Nick P2]")
    assert names["8086", "540a"] == "Intel Corporation"
    assert names["dead", "0001"] == ""


def test_softnet_tables_of_every_width(data: Path) -> None:
    captured = sorted((data / "interrupts").glob("*softnet*/softnet_stat*"))
    for path in [*captured, data / "hosts/strange-cpu/softnet-stat"]:
        text = path.read_text()
        rows = softnet.parse_softnet(text, [])
        assert [row.processed for row in rows] == [int(line.split()[0], 16) for line in text.splitlines()]
    wide = "0000000b" + " 00000000" * 11 + " 00000007 00000001 00000002\n"
    assert softnet.parse_softnet(wide, [])[0].cpu == 7
    assert [row.cpu for row in softnet.parse_softnet("1 2 3\n4 5 6\n", [2, 5])] == [2, 5]
    with pytest.raises(ValueError, match="has 1 columns"):
        softnet.parse_softnet("12\n", [])


def test_softirq_times_are_in_seconds() -> None:
    assert softnet.parse_softirq_times("cpu  1 1 1 1 1 1 1 1\ncpu3 1 2 3 4 5 6 250 0 0 0\nintr 1\n") == {3: 2.5}


def link(ifindex: int, name: str, **more: object) -> Link:
    return Link(ifindex, name, **more)  # type: ignore[arg-type]


def test_keys_are_macs_of_hardware_and_unique() -> None:
    found = [
        link(1, "lo", mac="00:00:00:00:00:00"),
        link(2, "eth0", mac="02:00:00:00:00:09", perm_mac="02:00:00:00:00:01"),
        link(3, "eth1", mac="02:00:00:00:00:09", perm_mac="02:00:00:00:00:02"),
        link(4, "vf0", mac="02:00:00:00:00:05"),
        link(5, "vf1", mac="02:00:00:00:00:05"),
        link(6, "veth0", mac="02:00:00:00:00:01"),
        link(7, "eth9", mac="00:00:00:00:00:00"),
        link(8, "eth0v0", mac="02:00:00:00:00:09", perm_mac="02:00:00:00:00:07"),
        link(9, "eth0v1", mac="02:00:00:00:00:01"),
        link(10, "eth0v1d1", mac="02:00:00:00:00:01"),
    ]
    devices = ["", "/d", "/d", "/d", "/d", "", "/d", "/d", "/d", "/d"]
    functions = ["0000:01:10.0", "0000:01:10.2", "0000:01:10.2"]
    addresses = ["", "", "", "0000:01:00.1", "", "", "", *functions]
    assert links.parse_keys(found, devices, addresses, [*[""] * 7, *functions]) == [
        "lo",
        "02:00:00:00:00:01",
        "02:00:00:00:00:02",
        "02:00:00:00:00:05@0000:01:00.1",
        "02:00:00:00:00:05@vf1",
        "veth0",
        "eth9",
        "0000:01:10.0",
        "0000:01:10.2@eth0v1",
        "0000:01:10.2@eth0v1d1",
    ]


def test_a_veth_does_not_stand_on_its_peer_nor_on_another_namespace() -> None:
    eth = link(2, "eth0", master=9)
    vlan = link(3, "eth0.7", link=2, kind="vlan")
    veth = link(4, "veth0", link=2, kind="veth")
    far = link(5, "far", link=2, kind="macvlan", netnsid=0)
    bond = link(9, "bond0", kind="bond")
    everything = [eth, vlan, veth, far, bond]
    assert [nic.parse_lower(one, everything) for one in everything] == [[], ["eth0"], [], [], ["eth0"]]


def test_driver_counters_go_by_their_table() -> None:
    counters = {"rx_out_of_buffer": 3, "rx_discards_phy": 5, "rx_discards": 9, "[0]: rx_ucast_packets": 7}
    assert [(s.metric, s.value) for s in nicstats.parse_driver_counters("k", counters)] == [
        ("nicstats.driver_rx_out_of_buffer", 3),
        ("nicstats.driver_rx_discards", 5),
    ]


def test_firmware_that_says_nothing() -> None:
    assert [nic.parse_firmware(text) for text in ("N/A", " 7.10 0x8000 ", "")] == ["", "7.10 0x8000", ""]
    assert ethtool.Fec(["RS"], auto=True, active="RS").auto
