"""A recorded machine answers as the real one did, takes writes in memory, and names nobody when redacted."""

import ipaddress
import json
import re
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine import (
    BusyError,
    DeniedError,
    Machine,
    MachineError,
    NotPresentError,
    Reply,
    UnsupportedError,
    Writer,
    ethtool,
    failure,
    irqbalance,
    netdev,
    nla,
    rtnl,
    tape,
)
from machine.capture import Captured, Recording, pci_ids
from machine.disguise import Disguise
from machine.live import Live
from machine.redact import redact
from wire.policy import Request

if TYPE_CHECKING:
    from tests.machine.conftest import Namespace

SETUP = "SLEEP 10 IRQ 7 LOAD 1 DIFF 2 CLASS 5 BANNED 00000000"


def _look(machine: Machine, index: int) -> list[Any]:
    """Everything the readers say of a namespace with va, errors too."""
    reads: list[Callable[[], Any]] = [
        lambda: rtnl.read_links(machine),
        lambda: rtnl.read_link_stats(machine),
        lambda: rtnl.read_addresses(machine),
        lambda: rtnl.read_routes(machine),
        lambda: ethtool.read_all_channels(machine),
        lambda: ethtool.read_channels(machine, index),
        lambda: ethtool.read_features(machine, index),
        lambda: ethtool.read_rings(machine, index),
        lambda: ethtool.read_drvinfo(machine, "va"),
        lambda: ethtool.read_stats(machine, "va"),
        lambda: netdev.read_queues(machine, index),
        lambda: machine.read("/proc/sys/kernel/ostype"),
        lambda: machine.read_bytes("/proc/sys/kernel/ostype"),
        lambda: machine.names("/proc/sys/net"),
        lambda: machine.names("/proc/sys/nothing"),
        lambda: machine.target("/proc/mounts"),
        lambda: machine.target("/proc/sys"),
        lambda: machine.resolve("/dev/fd"),
        lambda: machine.psutil("swap_memory"),
        lambda: machine.irqbalance("setup"),
    ]
    return [_outcome(read) for read in reads]


def _outcome(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except MachineError as error:
        return (type(error), str(error), error.code)


@pytest.mark.root
def test_a_recorded_machine_answers_as_the_real_one(veth: "Namespace") -> None:
    veth.ip("addr", "add", "10.9.0.1/24", "dev", "va")
    index = veth.ifindex("va")
    with veth.live(Live) as machine:
        recording = Recording(machine)
        said = _look(recording, index)
    assert _look(Captured(recording.dump(redact=False)), index) == said
    redacted = _look(Captured(recording.dump()), index)
    assert redacted[4:8] == said[4:8]
    assert [link.ifname for link in redacted[0]] == [link.ifname for link in said[0]]
    assert redacted[0] != said[0]


@pytest.mark.root
def test_a_capture_takes_ethtool_sets_as_the_driver_would(veth: "Namespace") -> None:
    index = veth.ifindex("va")
    with veth.live(Live) as machine:
        recording = Recording(machine)
        _look(recording, index)
    writer: Writer = Captured(recording.dump())
    writer.request(Request("channels", {}, {"rx": 1, "tx": 2}, index))
    assert ethtool.read_channels(writer, index) == {"rx_max": 4, "tx_max": 4, "rx": 1, "tx": 2}
    assert ethtool.read_all_channels(writer)[index]["rx"] == 1
    assert ethtool.read_all_channels(writer)[veth.ifindex("vb")]["rx"] == 4
    before, wanted = ethtool.read_features(writer, index), {"tx-tcp-segmentation": False, "rx-gro": True}
    writer.request(Request("features", {}, {**wanted}, index))
    assert (after := ethtool.read_features(writer, index)).active == before.active | wanted
    assert after.fixed == before.fixed
    for message, values, kind in (
        ("channels", {"rx": 5}, MachineError),
        ("channels", {"combined": 1}, MachineError),
        ("channels", {"rx_max": 1}, MachineError),
        ("features", {"hw-tc-offload": True}, UnsupportedError),
        ("rings", {"rx": 1}, UnsupportedError),
        ("coalesce", {"rx_usecs": 1}, UnsupportedError),
        ("wol", {"modes": 1}, MachineError),
    ):
        with pytest.raises(MachineError) as caught:
            writer.request(Request(message, {}, dict(values), index))
        assert type(caught.value) is kind


@pytest.fixture
def writer() -> Captured:
    recorded: tape.Tape = {
        ("file", "/proc/irq/45/smp_affinity_list"): b"0-3\n",
        ("file", "/proc/irq/45/effective_affinity_list"): b"2\n",
        ("file", "/proc/irq/46/smp_affinity_list"): b"0-3\n",
        ("file", "/proc/irq/47/smp_affinity_list"): failure(13, "/proc/irq/47/smp_affinity_list"),
        ("irqbalance", "setup"): SETUP.encode(),
    }
    return Captured(tape.format_tape(recorded))


def test_a_capture_takes_writes_to_files_it_has(writer: Captured) -> None:
    writer.write("/proc/irq/45/smp_affinity_list", "3")
    writer.write("/proc/irq/46/smp_affinity_list", "1")
    assert writer.read("/proc/irq/45/smp_affinity_list") == writer.read("/proc/irq/45/effective_affinity_list") == "3"
    assert writer.read("/proc/irq/46/smp_affinity_list") == "1"
    for path, kind in (("/proc/irq/47/smp_affinity_list", DeniedError), ("/proc/irq/48/node", NotPresentError)):
        with pytest.raises(kind):
            writer.write(path, "1")
    with pytest.raises(NotPresentError):
        writer.read("/proc/irq/46/effective_affinity_list")


def test_a_capture_takes_bans(writer: Captured) -> None:
    writer.irqbalance_ban([46, 45])
    assert irqbalance.parse_setup(writer.irqbalance("setup")) == irqbalance.Setup(10, [45, 46], "00000000")
    with pytest.raises(NotPresentError):
        Captured(tape.format_tape({("file", "/x"): b"1"})).irqbalance_ban([45])


bodies = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=60).map(str.encode),
    st.sampled_from([NotPresentError, UnsupportedError, DeniedError, BusyError, MachineError]).map(
        lambda kind: kind("why not")
    ),
)
words = st.text(min_size=1, max_size=20)
calls = st.one_of(
    st.tuples(st.tuples(st.sampled_from(["file", "names", "link", "path", "psutil", "irqbalance"]), words), bodies),
    st.tuples(
        st.tuples(st.just("rtnl"), st.just("18"), st.just("dump"), st.binary(max_size=9).map(bytes.hex)),
        st.lists(st.builds(Reply, st.integers(0, 99), st.binary(max_size=60)), max_size=4),
    ),
)


@given(st.dictionaries(words, calls, max_size=6))
def test_every_tape_reads_back(recorded: dict[str, tuple[tape.Call, tape.Body]]) -> None:
    written: tape.Tape = dict(recorded.values())
    read = tape.parse_tape(tape.format_tape(written))
    assert {call: _plain(body) for call, body in read.items()} == {call: _plain(body) for call, body in written.items()}


def _plain(body: tape.Body) -> Any:
    return (type(body), str(body), body.code) if isinstance(body, MachineError) else body


def _text() -> str:
    return tape.format_tape(
        {
            ("file", "/sys/class/net/eth0/mtu"): b"1500\n",
            ("file", "/sys/bytes"): b"\xff\0",
            ("names", "/sys/class/net"): b"eth0\nlo",
            ("rtnl", "18", "dump", "00"): [Reply(16, b"ab"), Reply(16, b"cd")],
            ("psutil", "pids"): json.dumps([1, 2]).encode(),
            ("link", "/sys/x"): NotPresentError("/sys/x: No such file"),
        }
    )


def test_a_capture_that_is_cut_anywhere_is_one_clear_error() -> None:
    whole = _text()
    assert Captured(whole).read("/sys/class/net/eth0/mtu") == "1500"
    for end in range(len(whole) - 1):
        with pytest.raises(MachineError, match=r"capture") as caught:
            Captured(whole[:end] + "\n")
        assert "\n" not in str(caught.value)


@given(st.integers(0, len(_text()) - 1), st.text(min_size=1, max_size=3))
def test_a_damaged_capture_raises_nothing_but_machine_error(at: int, junk: str) -> None:
    whole = _text()
    try:
        machine = Captured(whole[:at] + junk + whole[at + 1 :])
        machine.read("/sys/class/net/eth0/mtu")
        machine.psutil("pids")
        machine.names("/sys/class/net")
        rtnl.read_links(machine)
    except MachineError:
        pass


def test_a_capture_that_is_no_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "empty").write_text("")
    for name in ("missing", "bytes", "empty"):
        with pytest.raises(MachineError, match="capture"):
            Captured(tmp_path / name)
    (tmp_path / "good").write_text(_text())
    assert Captured(str(tmp_path / "good")).names("/sys/class/net") == ["eth0", "lo"]


MAC, PERM, HOST, SERIAL = "b4:96:91:5e:0f:a1", "B4-96-91-5E-0F-A2", "db17-rack4", "5CG0071XK9"
NEIGHBOUR = "001b17a1b2c3"
UUID, MACHINE_ID, IPV4, IPV6 = "4c4c4544-0039-5a10-8058-c7c04f4a5931", "f00d" * 8, "10.20.31.45", "fd12:3456:789a::4f"


@pytest.fixture
def secretive(tmp_path: Path) -> Iterator[Live]:
    """A tree whose files name the machine in every spelling."""
    files = {
        "proc/sys/kernel/hostname": f"{HOST}.example.net\n",
        "etc/machine-id": f"{MACHINE_ID}\n",
        "sys/class/dmi/id/product_serial": f"{SERIAL}\n",
        "sys/class/dmi/id/board_serial": "None\n",
        "sys/class/dmi/id/chassis_serial": "A7\n",
        "sys/class/dmi/id/product_uuid": f"{UUID}\n",
        "sys/class/dmi/id/product_name": "PowerEdge R750\n",
        "sys/class/net/eth0/address": f"{MAC}\n",
        f"sys/class/net/enx{MAC.replace(':', '')}/mtu": "1500\n",
        "sys/module/ice/version": "1.12.13.4\n",
        "proc/cmdline": f"root=UUID={UUID.upper()} ip={IPV4}::10.20.31.1:255.255.255.0:{HOST}:eth0"
        f" nfs=[{IPV6}] mac={PERM} log=udp://{IPV4}:514\n",
        "proc/interrupts": f" 45: 7 0 IR-PCI-MSIX-0000:4b:00.0 2-edge ice-{HOST}-{SERIAL.lower()}\n",
        "sys/firmware/dmi/tables/DMI": f"\0\1{SERIAL}\xff",
        "sys/bytes": f"\0{HOST}\0",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="latin-1")
    yield Live(str(tmp_path))
    shutil.rmtree(tmp_path)


def _record(machine: Live) -> Recording:
    recording = Recording(machine)
    for folder in (path for path in Path(machine.root).rglob("*") if path.is_dir()):
        recording.names("/" + str(folder.relative_to(machine.root)))
    for file in (path for path in Path(machine.root).rglob("*") if path.is_file()):
        recording.read("/" + str(file.relative_to(machine.root)))
    link = (
        struct.pack("=BxHiII", 0, 1, 2, 1, 0) + nla.text(3, "eth0") + nla.attr(1, bytes.fromhex(MAC.replace(":", "")))
    )
    link += nla.attr(54, bytes.fromhex(PERM.replace("-", ""))) + nla.text(20, f"uplink of {HOST}")
    recording.tape["rtnl", "18", "dump", "00"] = [Reply(16, link)]
    address = struct.pack("=BBBBI", 2, 24, 0, 0, 2) + nla.attr(1, bytes([10, 20, 31, 45]))
    recording.tape["rtnl", "22", "dump", "00"] = [Reply(20, address)]
    hop = struct.pack("=HBBi", 16, 0, 0, 2) + nla.attr(5, bytes([10, 20, 31, 45]))
    via = nla.attr(18, struct.pack("=H", 10) + ipaddress.ip_address(IPV6).packed)
    route = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 0, 0, 1, 0) + nla.attr(9, hop) + via
    recording.tape["rtnl", "26", "dump", "00"] = [Reply(24, route)]
    neighbour = struct.pack("=BxxxiHBB", 2, 2, 2, 0, 1) + nla.attr(1, bytes([10, 20, 31, 45]))
    neighbour += nla.attr(2, bytes.fromhex(NEIGHBOUR))
    recording.tape["rtnl", "30", "get", neighbour.hex()] = [Reply(28, neighbour)]
    recording.tape["file", "/sys/gone"] = failure(2, f"/sys/{SERIAL}")
    return recording


def test_nothing_that_names_the_machine_survives(secretive: Live) -> None:
    recording = _record(secretive)
    whole, redacted = recording.dump(redact=False), recording.dump()
    mac, perm = MAC.replace(":", ""), PERM.replace("-", "")
    secrets = [
        MAC,
        mac,
        PERM,
        perm,
        HOST,
        SERIAL,
        UUID,
        MACHINE_ID,
        IPV4,
        IPV6,
        "0a141f2d",
        HOST.encode().hex(),
        NEIGHBOUR,
    ]
    secrets.append(ipaddress.ip_address(IPV6).packed.hex())
    for secret in secrets:
        assert secret.lower() in whole.lower(), secret
        assert secret.lower() not in redacted.lower(), secret
    assert SERIAL.encode().hex() not in redacted.lower()


def test_stand_ins_are_equal_everywhere_and_keep_their_shape(secretive: Live) -> None:
    recording = _record(secretive)
    machine = Captured(recording.dump())
    link = rtnl.parse_link(machine.rtnl(18, b"\0", dump=True)[0].payload)
    assert machine.read("/sys/class/net/eth0/address") == link.mac
    assert link.mac.startswith("b4:96:91:")
    assert link.perm_mac != link.mac
    cmdline = machine.read("/proc/cmdline")
    assert len(cmdline) == len(recording.read("/proc/cmdline"))
    assert link.perm_mac.replace(":", "-").upper() in cmdline
    assert f"enx{link.mac.replace(':', '')}" in machine.names("/sys/class/net")
    assert machine.read(f"/sys/class/net/enx{link.mac.replace(':', '')}/mtu") == "1500"
    assert machine.read("/proc/sys/kernel/hostname").split(".")[0] in cmdline
    uuid = machine.read("/sys/class/dmi/id/product_uuid")
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", uuid)
    assert uuid.upper() in cmdline
    octets = re.findall(r"ip=([\d.]+)::([\d.]+):255\.255\.255\.0", cmdline)[0]
    assert octets[0].rsplit(".", 1)[0] == octets[1].rsplit(".", 1)[0]


def test_what_names_nobody_stays(secretive: Live) -> None:
    machine = Captured(_record(secretive).dump())
    assert machine.read("/sys/class/dmi/id/product_name") == "PowerEdge R750"
    assert machine.read("/sys/class/dmi/id/board_serial") == "None"
    assert machine.read("/sys/module/ice/version") == "1.12.13.4"
    assert "IR-PCI-MSIX-0000:4b:00.0 2-edge" in machine.read("/proc/interrupts")
    with pytest.raises(NotPresentError, match="left out"):
        machine.read_bytes("/sys/firmware/dmi/tables/DMI")
    assert machine.read("/sys/class/dmi/id/chassis_serial") != "A7"


def test_two_captures_of_a_machine_do_not_look_alike(secretive: Live) -> None:
    recording = _record(secretive)
    assert recording.dump() != recording.dump()
    one, other = (tape.format_tape(redact(recording.tape, b"salt")) for _ in range(2))
    assert one == other


@given(st.ip_addresses(v=4), st.ip_addresses(v=4))
def test_ipv4_stand_ins_are_one_to_one_and_keep_networks(one: Any, other: Any) -> None:
    disguise = Disguise(b"salt")
    hidden = [disguise.ipv4(address.packed) for address in (one, other)]
    assert (hidden[0] == hidden[1]) == (one == other)
    assert (hidden[0][:2] == hidden[1][:2]) == (one.packed[:2] == other.packed[:2])
    assert len(disguise.ip_text(str(one))) == len(str(one))


@given(st.ip_addresses(v=6))
def test_ipv6_stand_ins_keep_their_length(address: Any) -> None:
    text = str(address)
    disguised = Disguise(b"salt").ip_text(text)
    assert len(disguised) == len(text) or "." in disguised
    assert Disguise(b"salt").ip_text(text) == disguised


IDS = """# a comment
8086  Intel Corporation
\t10c9  82576 Gigabit Network Connection
\t\t8086 a01c  Gigabit ET Dual Port Server Adapter
\t10ca  82576 Gigabit Network Connection VF
# another comment
\t10d3  82574L Gigabit Network Connection
15b3  Mellanox Technologies
\t1017  MT27800 Family [ConnectX-5]
C 02  Network controller
\t00  Ethernet controller
"""


def test_a_capture_has_the_pci_names_of_its_own_devices_only() -> None:
    assert pci_ids(IDS, {("8086", "10c9"), ("8086", "10d3"), ("1af4", "1041")}).splitlines() == [
        "8086  Intel Corporation",
        "\t10c9  82576 Gigabit Network Connection",
        "\t\t8086 a01c  Gigabit ET Dual Port Server Adapter",
        "\t10d3  82574L Gigabit Network Connection",
    ]


def test_a_dump_cuts_pci_ids(tmp_path: Path) -> None:
    device = tmp_path / "sys/bus/pci/devices/0000:01:00.0"
    device.mkdir(parents=True)
    for name, number in (("vendor", "0x15b3"), ("device", "0x1017")):
        (device / name).write_text(f"{number}\n")
    (tmp_path / "usr/share/misc").mkdir(parents=True)
    (tmp_path / "usr/share/misc/pci.ids").write_text(IDS)
    recording = Recording(Live(str(tmp_path)))
    for name in ("vendor", "device"):
        recording.read(f"/sys/bus/pci/devices/0000:01:00.0/{name}")
    assert recording.read("/usr/share/misc/pci.ids") == IDS.strip()
    assert Captured(recording.dump()).read("/usr/share/misc/pci.ids").splitlines() == [
        "15b3  Mellanox Technologies",
        "\t1017  MT27800 Family [ConnectX-5]",
    ]
