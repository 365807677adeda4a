"""What QEMU is told, word for word (`--update` rewrites what is expected), and that QEMU builds it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hardware_lab import acpi, daemon, qemu
from hardware_lab.bmc import Ports
from hardware_lab.image import Image
from hardware_lab.machine import Board, Machine, Nic, Node, Nvme, Server
from hardware_lab.monitor import Monitor

GOLDEN = Path(__file__).with_name("golden")
ODD = Machine(
    nodes=(Node(cpus=1), Node(cpus=1, memory_mib=256), Node(cpus=1, memory_mib=384)),
    management="e1000e",
    nics=(Nic(model="e1000e", node=2), Nic(model="virtio-net", node=1, queues=1), Nic(node=0)),
    nvme=(Nvme(node=2), Nvme(node=1, size_mib=128)),
    board=Board(vendor="Comma, Inc.", product="Odd = 1"),
    bmc=False,
    tpm=False,
    watchdog=False,
)
UNEVEN = Machine(nodes=(Node(cpus=2), Node(cpus=1, memory_mib=256)), nics=(Nic(node=1),), bmc=False, tpm=False)
PLACE = qemu.Place(Path("/lab/srv1"), ssh=2222, broker=1883, bmc=Ports(623, 624, 625))
COMMANDS = {
    "default": (Server("srv1", 1, Machine()), PLACE, ["tap,fd=5,vhost=off", "tap,fd=6,vhost=off", "tap,fds=7:8:9:10"]),
    "odd": (Server("odd", 99, ODD), PLACE._replace(bmc=None), [f"hubport,hubid={at}" for at in (1, 2, 3)]),
}


def lines(argv: list[str]) -> str:
    """An option a line, with what belongs to it."""
    return "".join(f"\n{word}" if word.startswith("-") else f" {word}" for word in argv).lstrip() + "\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_is_what_it_was(name: str, update: bool) -> None:
    server, place, cables = COMMANDS[name]
    text = lines(qemu.argv(server, place, Image(Path("/image")), cables))
    golden = GOLDEN / f"{name}.txt"
    if update:
        golden.write_text(text)
    assert text == golden.read_text()


def test_without_nvme_nothing_else_changes() -> None:
    server, place, cables = COMMANDS["odd"]
    whole = lines(qemu.argv(server, place, Image(Path("/image")), cables)).splitlines()
    without = lines(qemu.argv(server, place, Image(Path("/image")), cables, nvme=False)).splitlines()
    gone = [line for line in whole if line not in without]
    assert [line.split()[0] for line in gone] == ["-drive", "-device"] * 2
    assert all("nvme" in line for line in gone)
    assert [line for line in whole if line not in gone] == without


@pytest.mark.parametrize("words", [qemu.KVM, qemu.TCG])
def test_the_accelerator_is_the_callers(words: tuple[str, ...]) -> None:
    server, place, cables = COMMANDS["default"]
    argv = qemu.argv(server, place, Image(Path("/image")), cables, accelerator=words)
    at = argv.index("-accel")
    assert tuple(argv[at : at + len(words)]) == words
    assert argv.count("-accel") == 1


@pytest.fixture(params=[ODD, UNEVEN], ids=["odd", "uneven"])
def built(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Machine, Monitor]]:
    """A machine that QEMU has built and not started."""
    machine, folder = request.param, tmp_path
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(folder / "disk.qcow2"), "64M"], check=True)
    sizes = {"mem0": machine.nodes[0].memory_mib}
    sizes |= {f"nvme{at}.img": drive.size_mib for at, drive in enumerate(machine.nvme)}
    for name, size_mib in sizes.items():
        with (folder / name).open("wb") as file:
            file.truncate(size_mib << 20)
    acpi.prepare(folder, machine.cpus)
    cables = [f"hubport,hubid={at + 1}" for at in range(len(machine.nics))]
    argv = qemu.argv(Server("built", 7, machine), qemu.Place(folder, 0, 1883), Image(folder), cables)
    at = argv.index("-kernel")
    assert argv[at : at + 6 : 2] == ["-kernel", "-initrd", "-append"]  # there is none: it is not started
    daemon.start([*argv[:at], *argv[at + 6 :], "-S"], folder, "qemu")
    try:
        daemon.await_ready(folder, "qemu", (folder / "qmp.sock").exists)
        with Monitor(folder / "qmp.sock") as monitor:
            yield machine, monitor
    finally:
        daemon.stop(folder, "qemu")


def test_qemu_builds_it(built: tuple[Machine, Monitor]) -> None:
    machine, monitor = built
    assert monitor.run("query-status")["status"] == "prelaunch"
    nodes: dict[str, set[int]] = {}
    for line in monitor.human("info numa").splitlines():
        words = line.split()
        if len(words) > 2 and words[2] == "cpus:":
            nodes[words[1]] = {int(cpu) for cpu in words[3:]}
    assert [len(cpus) for cpus in nodes.values()] == [node.cpus for node in machine.nodes]
    sizes = [line.split()[3] for line in monitor.human("info numa").splitlines() if " size: " in line]
    assert sizes == [str(node.memory_mib) for node in machine.nodes]
    parts = {one["name"]: one["type"] for one in monitor.run("qom-list", path="/machine/peripheral")}
    assert parts["mgmt"] == f"child<{machine.management}>"
    assert {f"nic{at}port" for at in range(len(machine.nics))} | {"spare"} <= set(parts)
    drivers = {"igb": "igb", "virtio-net": "virtio-net-pci", "e1000e": "e1000e"}
    assert [parts[f"nic{at}"] for at in range(len(machine.nics))] == [
        f"child<{drivers[nic.model]}>" for nic in machine.nics
    ]
    assert [parts[f"nvme{at}"] for at in range(len(machine.nvme))] == ["child<nvme>"] * len(machine.nvme)
