"""Ethtool readers on real drivers (veth, tun), and on replies written by hand for what those drivers lack."""

import json
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from machine import MachineError, NotPresentError, Reply, UnsupportedError, ethtool, ethtool_ioctl, netdev, nla
from machine.live import Live

if TYPE_CHECKING:
    from tests.machine.conftest import Namespace


@pytest.mark.root
def test_a_veth_says_what_it_has(veth: "Namespace") -> None:
    index = veth.ifindex("va")
    with veth.live(Live) as machine:
        assert ethtool.read_channels(machine, index) == {"rx_max": 4, "tx_max": 4, "rx": 4, "tx": 4}
        assert ethtool.read_all_channels(machine)[index] == ethtool.read_channels(machine, index)
        assert ethtool.read_linkmodes(machine, index) == ethtool.LinkModes(10000, None, "full", autoneg=False)
        features = ethtool.read_features(machine, index)
        info = ethtool.read_drvinfo(machine, "va")
        stats = ethtool.read_stats(machine, "va")
        for lacking in (ethtool.read_rings, ethtool.read_coalesce, ethtool.read_pause, ethtool.read_fec):
            with pytest.raises(UnsupportedError):
                lacking(machine, index)
        assert index not in ethtool.read_all_rings(machine)
    assert features.active["tx-tcp-segmentation"] is True
    assert "hw-tc-offload" in features.fixed
    assert "rx-gro" not in features.fixed
    assert info.driver == "veth"
    assert stats["peer_ifindex"] == veth.ifindex("vb")
    assert len(stats) == info.stats


@pytest.mark.root
def test_features_agree_with_ethtool(veth: "Namespace") -> None:
    """Names and values as ethtool(8) prints them, where it is installed."""
    command = ["ip", "netns", "exec", veth.name, "ethtool", "--json", "-k", "va"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("no ethtool that prints JSON")
    said = json.loads(done.stdout)[0]
    with veth.live(Live) as machine:
        features = ethtool.read_features(machine, veth.ifindex("va"))
    for name, value in said.items():
        if name in features.active:
            assert features.active[name] == value["active"], name
            assert (name in features.fixed) == value["fixed"], name


@pytest.mark.root
def test_a_tap_has_coalescing(namespace: "Namespace") -> None:
    namespace.ip("tuntap", "add", "dev", "t0", "mode", "tap")
    with namespace.live(Live) as machine:
        index = namespace.ifindex("t0")
        assert ethtool.read_coalesce(machine, index) == {"rx_max_frames": 0}
        assert ethtool.read_all_coalesce(machine) == {index: {"rx_max_frames": 0}}
        assert ethtool.read_drvinfo(machine, "t0").bus_info == "tap"


@pytest.mark.root
def test_a_nic_that_is_gone_is_not_present(veth: "Namespace") -> None:
    with veth.live(Live) as machine:
        for read in (ethtool.read_rings, ethtool.read_features, ethtool.read_linkmodes, ethtool.read_linkinfo):
            with pytest.raises(NotPresentError):
                read(machine, 9999)
        for name in ("nosuch0", "", "a-name-far-too-long-for-the-kernel", "va/../x"):
            with pytest.raises(NotPresentError):
                ethtool.read_drvinfo(machine, name)


@pytest.mark.root
def test_queues_of_a_veth_have_no_interrupt(veth: "Namespace") -> None:
    index = veth.ifindex("va")
    with veth.live(Live) as machine:
        queues = netdev.read_queues(machine, index)
        assert [(queue.id, queue.type) for queue in queues] == [(at, kind) for kind in ("rx", "tx") for at in range(4)]
        assert all(napi.irq is None for napi in netdev.read_napis(machine, index))
        assert {"basic", "redirect"} <= set(netdev.read_xdp_features(machine, index))
        with pytest.raises(NotPresentError):
            netdev.read_queues(machine, 9999)
        with pytest.raises(NotPresentError):
            netdev.read_xdp_features(machine, 9999)


def _bit(name: str, *, on: bool = False) -> bytes:
    return nla.nest(1, nla.text(2, name), *([nla.attr(3, b"")] if on else []))


def _listed(kind: int, *names: str) -> bytes:
    return nla.nest(kind, nla.attr(1, b""), nla.u32(2, 64), nla.nest(3, *(_bit(name) for name in names)))


def test_features_fixed_are_those_without_hardware_and_those_never_changed() -> None:
    hardware = nla.nest(2, nla.nest(3, _bit("a", on=True), _bit("b"), _bit("c", on=True), nla.nest(1, nla.u32(1, 13))))
    reply = hardware + _listed(3, "a") + _listed(4, "a", "b") + _listed(5, "c")
    assert ethtool.parse_features(nla.table(reply)) == ethtool.Features({"a": True, "b": True, "c": False}, ["b", "c"])


def test_link_modes_give_the_fastest_supported_speed() -> None:
    modes = nla.nest(3, nla.nest(3, *(_bit(name) for name in ("TP", "1000baseT/Full", "25000baseCR/Full", "Autoneg"))))
    unknown = nla.u8(2, 1) + modes + nla.u32(5, 0xFFFFFFFF) + nla.u8(6, 0xFF)
    found = ethtool.parse_linkmodes(nla.table(unknown))
    assert found[:4] == (None, 25000, "", True)
    assert (found.supported, found.advertised) == (("TP", "1000baseT/Full", "25000baseCR/Full", "Autoneg"), ())


def test_forward_error_correction_and_hash_tables() -> None:
    fec = nla.nest(2, nla.nest(3, _bit("RS", on=True), _bit("BASER"))) + nla.u8(3, 1) + nla.u32(4, 50)
    assert ethtool.parse_fec(nla.table(fec)) == ethtool.Fec(["RS"], auto=True, active="RS")
    rss = nla.u32(3, 2) + nla.attr(4, struct.pack("=4I", 0, 1, 0, 1))
    assert ethtool.parse_rss(nla.table(rss)) == ethtool.Rss([0, 1, 0, 1], "xor")


@pytest.mark.parametrize(("port", "name"), [(0, "tp"), (3, "fibre"), (5, "da"), (0xEF, "none"), (99, "")])
def test_ports_have_names(port: int, name: str) -> None:
    assert ethtool.parse_linkinfo(nla.table(nla.u8(2, port))) == name


def test_counters_with_equal_names_are_kept_apart() -> None:
    names = [b"rx", b"[0]: rx_ucast", b"rx", b"rx"]
    strings = struct.pack("=III", 0x1B, 1, 4) + b"".join(name.ljust(32, b"\0") for name in names) + bytes(640)
    values = struct.pack("=II4Q", 0x1D, 4, 1, 2, 3, 1 << 63) + bytes(64)
    assert ethtool_ioctl.parse_stats(strings, values) == {"rx": 1, "[0]: rx_ucast": 2, "rx#2": 3, "rx#3": 1 << 63}


def test_counter_replies_that_are_cut_hold_what_both_have() -> None:
    strings = struct.pack("=III", 0x1B, 1, 9) + b"rx".ljust(32, b"\0")
    assert ethtool_ioctl.parse_stats(strings, struct.pack("=II2Q", 0x1D, 9, 7, 8)) == {"rx": 7}
    with pytest.raises(MachineError, match="too short"):
        ethtool_ioctl.parse_stats(b"", b"")


def test_a_napi_tells_its_interrupt_and_thread() -> None:
    reply = Reply(11, nla.u32(1, 4) + nla.u32(2, 513) + nla.u32(3, 45) + nla.u32(4, 1234))
    assert netdev.parse_napi(reply) == netdev.Napi(513, 45, 1234)
