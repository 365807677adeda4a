"""qdisc, sysctl, the clock's owners and a switch's bridging, from what the kernel, files and frames say."""

import struct
from pathlib import Path

import pytest

from collectors import qdisc as collector
from collectors import sysctl
from collectors.links import Port
from collectors.lldp_frame import parse_frame
from collectors.run import run
from machine import MachineError, Reply, hwtstamp, nla, qdisc
from machine.live import Live
from machine.rtnl import Link
from wire.facts import Sysctl, SysctlOwner


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


# -- sysctl --


def test_of_files_with_one_name_the_first_folders_counts_and_then_the_last_name(tmp_path: Path) -> None:
    put(tmp_path, "usr/lib/sysctl.d/50-default.conf", "net.core.default_qdisc = fq_codel\nnet.core.somaxconn=1\n")
    put(tmp_path, "usr/lib/sysctl.d/90-app.conf", "net.core.somaxconn=2\n")
    put(tmp_path, "etc/sysctl.d/90-app.conf", "# ours\n;x\nnet/core/somaxconn = 4096\n-net.ipv4.tcp_rmem=1\t2  3\n")
    put(tmp_path, "run/sysctl.d/10-early.conf", "net.core.netdev_*= 600\nkernel.panic = 1\nnonsense\n")
    put(tmp_path, "etc/sysctl.d/README", "net.core.somaxconn = 9\n")
    put(tmp_path, "proc/sys/net/core/somaxconn", "4096\n")
    put(tmp_path, "proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n")
    (found,) = run(sysctl, Live(str(tmp_path)), 0).facts
    assert isinstance(found, Sysctl)
    assert found.values == {"net.core.somaxconn": "4096", "net.ipv4.tcp_rmem": "4096 131072 6291456"}
    ours = "/etc/sysctl.d/90-app.conf"
    assert found.owners["net.core.somaxconn"] == SysctlOwner(path=ours, value="4096")
    assert found.owners["net.ipv4.tcp_rmem"] == SysctlOwner(path=ours, value="1 2 3")
    assert found.owners["net.core.default_qdisc"].path == "/usr/lib/sysctl.d/50-default.conf"
    assert found.owners["net.core.netdev_budget"].value == "600"
    assert "net.core.busy_poll" not in found.owners


def test_without_settings_it_is_absent(tmp_path: Path) -> None:
    assert run(sysctl, Live(str(tmp_path)), 0).status == "absent"


# -- qdisc --

FQ = nla.u32(1, 10000) + nla.u32(2, 100) + nla.attr(15, b"\x01") + nla.attr(17, bytes(12))
FQ_CODEL = nla.u32(1, 4999) + nla.u32(4, 1) + nla.u32(99, 7)


def message(kind: str, handle: int, parent: int, options: bytes = b"") -> bytes:
    return struct.pack("=BxxxiIII", 0, 3, handle, parent, 0) + nla.text(1, kind) + nla.attr(2, options)


class Kernel(Live):
    """A machine whose kernel shows these disciplines, and one filter at each place that is asked for."""

    def __init__(self, root: Path, disciplines: list[bytes]) -> None:
        super().__init__(str(root))
        self.disciplines = disciplines

    def rtnl(self, kind: int, payload: bytes, *, dump: bool = False) -> list[Reply]:
        assert dump
        if kind == qdisc.GETQDISC:
            return [Reply(36, one) for one in self.disciplines]
        at = struct.unpack_from("=BxxxiIII", payload)[3]
        options = nla.attr(2, nla.text(7, "shape")) if at == 0xFFFFFFF3 else b""
        name = "bpf" if options else "matchall"
        return [Reply(44, struct.pack("=BxxxiIII", 0, 3, 0, at, 0) + nla.text(1, name) + options)] * 2


def read(root: Path, *disciplines: bytes) -> tuple[str, list[str], list[str]]:
    for queue in ("tx-0", "tx-1", "rx-0"):
        put(root, f"sys/class/net/eth0/queues/{queue}/tx_maxrate", "0\n")
    kernel = Kernel(root, list(disciplines))
    port = Port("eth0", Link(ifindex=3, ifname="eth0"), "", "")
    found = collector.read_qdisc(kernel, port, qdisc.read_all(kernel).get(3, []))
    return found.root, found.queues, found.foreign


def test_a_default_tree_is_no_hands_work(tmp_path: Path) -> None:
    leaves = [message("fq_codel", 0, queue, FQ_CODEL) for queue in (1, 2)]
    text = "fq_codel 0: target=4999 ecn=1"
    assert read(tmp_path, message("mq", 0, qdisc.ROOT), *leaves) == ("mq 0:", [text, text], [])
    assert read(tmp_path) == ("noqueue 0:", ["", ""], [])


def test_classes_and_filters_on_sending_are_named(tmp_path: Path) -> None:
    tree = (
        message("mq", 0x10000, qdisc.ROOT),
        message("fq", 0x80010000, 0x10001, FQ),
        message("netem", 0x80020000, 0x10002),
        message("clsact", 0xFFFF0000, 0xFFFFFFF1),
    )
    root, queues, foreign = read(tmp_path, *tree)
    assert (root, queues[1]) == ("mq 1:", "netem 8002:")
    assert queues[0] == f"fq 8001: limit=10000 flow_limit=100 horizon_drop=1 weights={'0' * 24}"
    assert foreign == ["netem 8002:", "filter matchall at root", "filter bpf shape at clsact egress"]
    assert read(tmp_path, message("htb", 0x10000, qdisc.ROOT))[2] == ["htb 1:", "filter matchall at root"]


def test_options_are_set_so_that_they_read_back() -> None:
    for kind, options in (("fq", FQ), ("pfifo", struct.pack("=I", 77))):
        read_back = qdisc.parse_options(kind, options)
        encoded = nla.table(qdisc.encode_options(kind, read_back))[2]
        assert encoded == options
    assert nla.table(qdisc.encode_options("fq_codel", {"target": "4999"}))[2] == nla.u32(1, 5000)
    assert qdisc.encode_options("mq", {}) == b""
    with pytest.raises(MachineError, match="pfifo_fast has no limit"):
        qdisc.encode_options("pfifo_fast", {"limit": "1"})
    with pytest.raises(MachineError, match="too short"):
        qdisc.parse_message(b"12")


# -- clocks and switches --


def test_who_has_a_hardware_clock_open_is_its_owner(tmp_path: Path) -> None:
    for pid, name, device in (("7", "ptp4l", "ptp1"), ("8", "bash", "ptp0"), ("9", "chronyd", "null")):
        put(tmp_path, f"proc/{pid}/comm", name + "\n")
        (tmp_path / f"proc/{pid}/fd").mkdir()
        (tmp_path / f"proc/{pid}/fd/3").symlink_to(f"/dev/{device}")
    assert hwtstamp.clock_owners(Live(str(tmp_path))) == {1: "ptp4l"}


def test_a_config_of_stamps_is_read_in_words() -> None:
    class Stamping(Live):
        config = struct.pack("=iii", 0, 1, 12)

        def hwtstamp(self, ifname: str) -> bytes:
            assert ifname == "eth0"
            return self.config

    machine = Stamping()
    assert hwtstamp.read(machine, "eth0") == ("on", "ptpv2-event")
    machine.config = struct.pack("=iii", 0, 9, -1)
    assert hwtstamp.read(machine, "eth0") == ("9", "-1")
    machine.config = b"x"
    with pytest.raises(MachineError, match="too short"):
        hwtstamp.read(machine, "eth0")


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!H", kind << 9 | len(value)) + value


def test_what_a_switch_says_of_lossless_priorities_and_shares() -> None:
    head = bytes.fromhex("0180c200000e525400aa000188cc")
    ids = tlv(1, b"\x04\x52\x54\x00\xaa\x00\x01") + tlv(2, b"\x05eth7") + tlv(3, b"\x00\x78")
    shares = b"\x00" + bytes.fromhex("00030000") + bytes([50, 0, 0, 50, 0, 0, 0, 0]) + bytes([2, 2, 2, 2, 0, 0, 0, 255])
    ets, pfc = b"\x00\x80\xc2\x09" + shares, b"\x00\x80\xc2\x0b\x88\x08"
    found = parse_frame(head + ids + tlv(127, ets) + tlv(127, pfc) + tlv(0, b""))
    assert found is not None
    assert (found.pfc, found.pfc_willing) == ([3], True)
    assert found.ets_prio_tc == [0, 0, 0, 3, 0, 0, 0, 0]
    assert found.ets_bandwidth == [50, 0, 0, 50, 0, 0, 0, 0]
    assert found.ets_tsa == ["ets"] * 4 + ["strict"] * 3 + ["vendor"]
    short = parse_frame(head + ids + tlv(127, ets[:-1]) + tlv(127, pfc[:-1]) + tlv(0, b""))
    assert short is not None
    assert (short.pfc, short.ets_tsa) == (None, None)
