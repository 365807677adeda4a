"""Writes: ethtool sets and kernel files in namespaces of the tests' own, one real refusal of the kernel each."""

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from machine import DeniedError, MachineError, NotPresentError, UnsupportedError, ethtool, failure
from machine.change import LiveWriter
from wire.policy import Request, Values

if TYPE_CHECKING:
    from tests.machine.conftest import Namespace

ROOT = Path(__file__).parents[2]


@pytest.mark.root
def test_channels_are_set_and_refused_in_the_kernels_words(veth: "Namespace") -> None:
    index = veth.ifindex("va")
    with veth.live(LiveWriter) as machine:
        veth.run(lambda: machine.request(Request("channels", {}, {"rx": 2, "tx": 3}, index)))
        assert ethtool.read_channels(machine, index) == {"rx_max": 4, "tx_max": 4, "rx": 2, "tx": 3}
        with pytest.raises(MachineError, match="requested channel count exceeds maximum"):
            veth.run(lambda: machine.request(Request("channels", {}, {"rx": 5}, index, "va")))
        assert ethtool.read_channels(machine, index)["rx"] == 2


@pytest.mark.root
def test_features_are_set_several_at_once(veth: "Namespace") -> None:
    index = veth.ifindex("va")
    with veth.live(LiveWriter) as machine:
        veth.run(
            lambda: machine.request(Request("features", {}, {"tx-tcp-segmentation": False, "rx-gro": True}, index))
        )
        active = ethtool.read_features(machine, index).active
        assert (active["tx-tcp-segmentation"], active["rx-gro"]) == (False, True)
        veth.run(lambda: machine.request(Request("features", {}, {"tx-tcp-segmentation": True}, index)))
        assert ethtool.read_features(machine, index).active["tx-tcp-segmentation"] is True


@pytest.mark.root
def test_coalescing_of_a_tap_is_set(namespace: "Namespace") -> None:
    namespace.ip("tuntap", "add", "dev", "t0", "mode", "tap")
    index = namespace.ifindex("t0")
    with namespace.live(LiveWriter) as machine:
        namespace.run(lambda: machine.request(Request("coalesce", {}, {"rx_max_frames": 32}, index)))
        assert ethtool.read_coalesce(machine, index) == {"rx_max_frames": 32}
        with pytest.raises(MachineError, match="unsupported parameter"):
            namespace.run(lambda: machine.request(Request("coalesce", {}, {"use_adaptive_rx": True}, index)))


REFUSED: list[tuple[str, Values, type[MachineError], str]] = [
    ("rings", {"rx": 256}, UnsupportedError, "set rings"),
    ("features", {"hw-tc-offload": True}, UnsupportedError, "unchanged are hw-tc-offload"),
    ("features", {"no-such-feature": True}, UnsupportedError, "bit name not found"),
    ("channels", {"rx_max": 9}, MachineError, "no 'rx_max' to set"),
    ("channels", {"queues": 9}, MachineError, "no 'queues' to set"),
    ("channels", {"rx": "four"}, MachineError, "'four' is not a number of 32 bits"),
    ("channels", {"rx": -1}, MachineError, "-1 is not a number of 32 bits"),
    ("channels", {"rx": 1 << 40}, MachineError, "is not a number of 32 bits"),
    ("wol", {"modes": 1}, MachineError, "no request 'wol'"),
]


@pytest.mark.root
@pytest.mark.parametrize(("message", "values", "kind", "words"), REFUSED)
def test_what_a_driver_does_not_do_is_one_clear_error(
    veth: "Namespace", message: str, values: Values, kind: type[MachineError], words: str
) -> None:
    index = veth.ifindex("va")
    with veth.live(LiveWriter) as machine:
        with pytest.raises(MachineError, match=words) as caught:
            veth.run(lambda: machine.request(Request(message, {}, values, index)))
        assert type(caught.value) is kind
        assert "\n" not in str(caught.value)


@pytest.mark.root
def test_a_nic_that_is_gone_is_not_present(veth: "Namespace") -> None:
    with veth.live(LiveWriter) as machine, pytest.raises(NotPresentError, match="no device matches"):
        veth.run(lambda: machine.request(Request("channels", {}, {"rx": 1}, 9999)))


@pytest.mark.root
def test_a_thousand_sets_leave_no_descriptor(veth: "Namespace") -> None:
    index = veth.ifindex("va")
    with veth.live(LiveWriter) as machine:

        def sets(count: int) -> int:
            for at in range(count):
                machine.request(Request("channels", {}, {"rx": 1 + at % 4}, index))
                with pytest.raises(MachineError):
                    machine.request(Request("channels", {}, {"rx": 9}, index))
            return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

        before = veth.run(lambda: sets(5))
        assert veth.run(lambda: sets(500)) < before + 50, "a leak would leave one per set; other tests' threads a few"


@pytest.mark.root
def test_kernel_files_are_written_and_refused(veth: "Namespace") -> None:
    said = veth.python(
        "from machine.change import LiveWriter\n"
        "from machine import MachineError\n"
        "machine = LiveWriter()\n"
        "queue = '/sys/class/net/va/queues/'\n"
        "machine.write(queue + 'tx-1/xps_cpus', '1')\n"
        "machine.write(queue + 'rx-0/rps_cpus', '1\\n')\n"
        "print(machine.read(queue + 'tx-1/xps_cpus'), machine.read(queue + 'rx-0/rps_cpus'))\n"
        "for path, text in ((queue + 'rx-0/rps_cpus', 'zz'), (queue + 'rx-9/rps_cpus', '1'), (queue, '1'),\n"
        "                   ('/sys/class/net/va/address', '1'), ('/sys/class/net/va/speed', '1')):\n"
        "    try:\n"
        "        machine.write(path, text)\n"
        "    except MachineError as error:\n"
        "        print(type(error).__name__, error)\n"
    )
    lines = said.splitlines()
    assert lines[0].replace("0", "") == "1 1"
    assert [line.split()[0] for line in lines[1:3]] == ["MachineError", "NotPresentError"]
    assert lines[3].startswith("NotPresentError")
    assert len(lines) == 6


def test_a_write_is_one_system_call_and_replaces_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "mask").write_text("ffffffff,ffffffff\n")
    LiveWriter(str(tmp_path)).write("/mask", "1")
    assert (tmp_path / "mask").read_text() == "1"
    with pytest.raises(NotPresentError):
        LiveWriter(str(tmp_path)).write("/new", "1")
    assert not (tmp_path / "new").exists()


@pytest.mark.root
@pytest.mark.parametrize(("code", "kind"), [(1, UnsupportedError), (5, UnsupportedError), (28, MachineError)])
def test_an_interrupt_the_kernel_places_is_unsupported(
    code: int, kind: type[MachineError], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No managed interrupt is here to be had: the kernel's answer to the write is put in its place."""
    (tmp_path / "proc/irq/4").mkdir(parents=True)
    (tmp_path / "proc/irq/4/smp_affinity_list").write_text("0-1")

    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    machine = LiveWriter(str(tmp_path))
    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(kind) as caught:
        machine.write("/proc/irq/4/smp_affinity_list", "0")
    monkeypatch.undo()
    assert (type(caught.value), caught.value.code) == (kind, code)


def test_a_refusal_elsewhere_is_denied() -> None:
    assert type(failure(1, "/sys/x")) is DeniedError


def test_nothing_heavy_is_imported_until_something_is_set() -> None:
    code = "import sys, machine.change, machine.monitor, machine.rtnl, machine.netdev; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert loaded.isdisjoint({"pyroute2", "asyncio", "yaml", "psutil", "json", "hashlib", "logging"})
