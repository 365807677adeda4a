"""A server's hardware from TOML: what is not said is the default, what is wrong is one line with the file's name."""

from pathlib import Path

import msgspec
import pytest

from hardware_lab.failure import LabError
from hardware_lab.machine import Machine, Nic, Node, Server, mistakes, read_machine

FULL = """
management = "virtio-net"
nodes = [{cpus = 4, memory_mib = 1024}, {cpus = 4, memory_mib = 1024}]
nics = [
  {model = "igb", node = 0, wire = "data"},
  {model = "virtio-net", node = 1, queues = 8, wire = "data"},
]
nvme = []
tpm = false
board = {vendor = "Dell Inc.", product = "PowerEdge R760"}
"""
WRONG = {
    "nodes = 5": r"Expected `array`, got `int` - at `\$\.nodes`",
    "nics = [{modle = 'igb'}]": r"unknown field `modle` - at `\$\.nics\[0\]`",
    "nics = [{model = 'rtl8139'}]": r"Invalid enum value 'rtl8139' - at `\$\.nics\[0\]\.model`",
    "nodes = [": r"Invalid value \(at end of document\)",
    "nodes = 1 2": r"\(at line 1, column 11\)",
    "nodes = []": r"nodes: 1 to 8 of them, not 0",
    "nodes = [{}, {}, {}, {}, {}, {}, {}, {}, {}]": r"nodes: 1 to 8 of them, not 9",
    "nodes = [{cpus = 0}]\nnics = []\nnvme = []": r"nodes\[0\]\.cpus must be at least 1",
    "nodes = [{}, {memory_mib = 300}]": r"nodes\[1\]\.memory_mib must be a multiple of 128, at least 256",
    "nodes = [{memory_mib = 512}, {}]": r"nodes\[0\]\.memory_mib must be at least 640: the sensors' page lies at 512",
    "nics = [{node = 2}]": r"nics\[0\]\.node 2 is not there: 2 nodes",
    "nvme = [{}, {node = -1}]": r"nvme\[1\]\.node -1 is not there: 2 nodes",
    "nics = [{model = 'virtio-net', queues = 17}]": r"nics\[0\]\.queues must be 1 to 16",
    f"nics = [{', '.join(['{}'] * 17)}]": r"nics: at most 16, not 17",
}


def write(folder: Path, text: str) -> Path:
    path = folder / "machine.toml"
    path.write_text(text)
    return path


def test_an_empty_file_is_the_default_machine(tmp_path: Path) -> None:
    assert read_machine(write(tmp_path, "")) == Machine()
    assert mistakes(Machine()) == []


def test_what_is_said_is_taken(tmp_path: Path) -> None:
    machine = read_machine(write(tmp_path, FULL))
    assert (machine.cpus, machine.memory_mib, machine.management) == (8, 2048, "virtio-net")
    assert machine.nics == (Nic(wire="data"), Nic(model="virtio-net", node=1, queues=8, wire="data"))
    assert (machine.nvme, machine.tpm, machine.bmc) == ((), False, True)
    assert (machine.board.vendor, machine.board.cpu) == ("Dell Inc.", "LabCPU 9000")


@pytest.mark.parametrize("text", WRONG)
def test_a_mistake_is_one_line_with_the_files_name(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(LabError, match=WRONG[text]) as caught:
        read_machine(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "nodes = [{cpus = 0}, {memory_mib = 1}]\nnics = [{node = 9}]\nnvme = []")
    with pytest.raises(LabError) as caught:
        read_machine(path)
    assert str(caught.value).count(";") == 2


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"^/no/such\.toml: No such file or directory$"):
        read_machine(Path("/no/such.toml"))
    with pytest.raises(LabError, match=rf"^{tmp_path}: Is a directory$"):
        read_machine(tmp_path)
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(LabError, match=rf"^{path}: .*utf-8"):
        read_machine(path)


def test_no_two_servers_share_an_identity() -> None:
    machine = Machine(nics=(Nic(),) * 16, nodes=(Node(),))
    servers = [Server(f"srv{number}", number, machine) for number in range(1, 100)]
    macs = [mac for one in servers for mac in (one.management_mac, *(one.mac(at) for at in range(16)))]
    assert len(set(macs)) == len(macs) == 99 * 17
    assert len({one.uuid for one in servers}) == len({one.serial for one in servers}) == 99
    assert servers[0].uuid == Server("another name", 1, Machine()).uuid
    assert all(int(mac[:2], 16) & 3 == 2 for mac in macs), "locally administered, of one host"


def test_a_server_is_kept_as_json() -> None:
    server = Server("srv3", 3, Machine(bmc=False))
    assert msgspec.json.decode(msgspec.json.encode(server), type=Server) == server
