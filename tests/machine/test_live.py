"""Files under a root: this machine's, a foreign root's, and captured trees."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from machine import BusyError, DeniedError, MachineError, NotPresentError, UnsupportedError, failure
from machine.capture import Captured, Recording
from machine.change import LiveWriter
from machine.live import PSUTIL, Live
from wire.policy import Request


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A root with a device, an absolute link, a link that climbs out and a loop."""
    device = tmp_path / "sys/devices/pci0/net/eth0"
    device.mkdir(parents=True)
    (device / "mtu").write_text("1500\n")
    (device / "cpus").write_bytes(b"0-7\n\0")
    (tmp_path / "sys/class").mkdir()
    (tmp_path / "sys/class/net").symlink_to("/sys/devices/pci0/net")
    (tmp_path / "sys/out").symlink_to("../../../../../../../../etc/passwd")
    (tmp_path / "sys/loop").symlink_to("loop")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("mine\n")
    return tmp_path


def test_absolute_links_stay_inside_a_foreign_root(tree: Path) -> None:
    machine = Live(str(tree))
    assert machine.read("/sys/class/net/eth0/mtu") == "1500"
    assert machine.read("/sys/class/net/eth0/cpus") == "0-7"
    assert machine.read_bytes("/sys/class/net/eth0/cpus") == b"0-7\n\0"
    assert machine.names("/sys/class/net/eth0") == ["cpus", "mtu"]
    assert machine.target("/sys/class/net") == "/sys/devices/pci0/net"
    assert machine.resolve("/sys/class/net/eth0") == "/sys/devices/pci0/net/eth0"


def test_no_link_leads_out_of_a_foreign_root(tree: Path) -> None:
    machine = LiveWriter(str(tree))
    assert machine.read("/sys/out") == "mine"
    assert machine.read("/../../etc/passwd") == "mine"
    machine.write("/sys/out", "changed")
    assert (tree / "etc/passwd").read_text() == "changed"
    with pytest.raises(NotPresentError, match="Too many levels of symbolic links"):
        machine.read("/sys/loop")


def test_a_write_outside_the_root_touches_nothing(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "file"
    outside.write_text("before")
    (tree / "escape").symlink_to(outside)
    with pytest.raises(NotPresentError):
        LiveWriter(str(tree)).write("/escape", "after")
    with pytest.raises(NotPresentError):
        LiveWriter(str(tree)).write(f"/../{outside}", "after")
    assert outside.read_text() == "before"


def test_there_is_no_kernel_under_a_foreign_root(tree: Path) -> None:
    machine = LiveWriter(str(tree))
    calls: list[Callable[[], object]] = [
        lambda: machine.rtnl(18, bytes(16), dump=True),
        lambda: machine.genl("ethtool", 15, b"", dump=True),
        lambda: machine.ethtool_ioctl("lo", bytes(4), 196),
        lambda: machine.psutil("virtual_memory"),
        lambda: machine.irqbalance("setup"),
        lambda: machine.request(Request("rings", {}, {"rx": 1}, 1)),
        lambda: machine.irqbalance_ban([4]),
    ]
    for call in calls:
        with pytest.raises(NotPresentError, match="no running machine"):
            call()


@pytest.mark.parametrize("path", ["/no/such/file", "/proc/1", "/proc/self/nothing"])
def test_what_is_not_there_is_not_present(path: str) -> None:
    with pytest.raises(NotPresentError, match=path) as caught:
        Live().read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["etc/passwd", "", "/etc/pass\0wd"])
def test_a_path_that_is_none_is_one_clear_error(path: str) -> None:
    with pytest.raises(MachineError, match="not an absolute path"):
        Live().read(path)


def test_a_file_that_vanishes_between_listing_and_reading(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("1")
    (tmp_path / "gone").write_text("2")
    machine = Live(str(tmp_path))
    names = machine.names("/")
    (tmp_path / "gone").unlink()
    assert names == ["gone", "here"]
    assert machine.read("/here") == "1"
    with pytest.raises(NotPresentError):
        machine.read("/gone")


def test_a_pipe_or_a_directory_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert Live(str(tmp_path)).read("/pipe") == ""
    with pytest.raises(NotPresentError):
        Live(str(tmp_path)).names("/pipe")
    with pytest.raises(NotPresentError):
        Live(str(tmp_path)).read("/")


def test_bytes_that_are_no_text_are_read_anyway(tmp_path: Path) -> None:
    (tmp_path / "fru").write_bytes(b"ab\xff\n")
    assert Live(str(tmp_path)).read("/fru") == "ab\ufffd"


@pytest.mark.parametrize(
    ("code", "kind", "retry"),
    [
        (2, NotPresentError, False),
        (19, NotPresentError, False),
        (95, UnsupportedError, False),
        (25, UnsupportedError, False),
        (1, DeniedError, False),
        (13, DeniedError, False),
        (16, BusyError, True),
        (11, BusyError, True),
        (22, MachineError, False),
        (28, MachineError, False),
    ],
)
def test_the_errno_chooses_the_class(code: int, kind: type[MachineError], retry: bool) -> None:
    error = failure(code, "/x")
    assert (type(error), error.retry, error.code) == (kind, retry, code)
    assert str(error) == f"/x: {os.strerror(code)}"


@pytest.mark.parametrize("function", sorted(PSUTIL))
def test_psutil_says_what_json_can_hold_or_is_not_present(function: str) -> None:
    recording = Recording(Live())
    try:
        said = recording.psutil(function)
    except NotPresentError:
        return
    assert Captured(recording.dump(redact=False)).psutil(function) == said


def test_psutil_functions_outside_the_table_are_not_present() -> None:
    for function in ("Process", "process_iter", "wait_procs", "os", "_common"):
        with pytest.raises(NotPresentError):
            Live().psutil(function)


def test_many_threads_share_a_machine_without_growth() -> None:
    with Live() as machine:
        counts: list[int] = []

        def ask() -> None:
            counts.extend(len(machine.rtnl(18, bytes(16), dump=True)) for _ in range(50))

        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        for _ in range(5):
            threads = [threading.Thread(target=ask) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(counts) == 1000
        assert min(counts) >= 1
        assert len(os.listdir("/proc/self/fd")) < before + 15, "one per thread would be 20"  # noqa: PTH208


SPARSE = "numa-topology/hwloc/48amd64-4pa2n6c-sparse.tar.bz2"
R750 = "numa-topology/openshift-nto/master.internal.sysinfo.tgz"


@pytest.mark.parametrize(
    ("archive", "path", "text"),
    [
        (SPARSE, "/sys/devices/system/node/online", "0-2,33-34,45,72-73"),
        (SPARSE, "/sys/devices/system/node/has_normal_memory", "0-7"),
        (R750, "/sys/bus/pci/devices/0000:98:00.0/numa_node", "1"),
        (R750, "/proc/irq/default_smp_affinity", "ffff,ffffffff,ffffffff,ffffffff"),
    ],
)
def test_captured_trees_of_real_machines_read(
    archive: str, path: str, text: str, unpack: Callable[[str], Path]
) -> None:
    recording = Recording(Live(str(unpack(archive))))
    assert recording.read(path) == text
    assert Captured(recording.dump()).read(path) == text


def test_links_of_a_captured_tree_lead_to_its_devices(unpack: Callable[[str], Path]) -> None:
    machine = Live(str(unpack(R750)))
    assert "0000:4b:00.0" in machine.names("/sys/bus/pci/devices")
    device = "/sys/devices/pci0000:4a/0000:4a:02.0/0000:4b:00.0"
    assert machine.resolve("/sys/bus/pci/devices/0000:4b:00.0") == device
    assert machine.target("/sys/bus/pci/devices/0000:4b:00.0") == "../../.." + device.removeprefix("/sys")
