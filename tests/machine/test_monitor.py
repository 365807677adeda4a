"""Announcements in real namespaces; an overrun is told and outlived."""

import select
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from machine import NotPresentError
from machine.change import LiveWriter
from machine.monitor import Monitor, Notice
from machine.rtnl import Address, Route
from machine.uevents import Uevent
from wire.policy import Request

if TYPE_CHECKING:
    from tests.machine.conftest import Namespace

pytestmark = pytest.mark.root
DEADLINE_S = 30
ROOT = Path(__file__).parents[2]


def _next(monitor: Monitor) -> list[Notice]:
    ready, _, _ = select.select([monitor], [], [], DEADLINE_S)
    assert ready, "nothing was announced"
    return monitor.read()


def test_links_that_come_change_and_go_are_announced(namespace: "Namespace") -> None:
    with namespace.run(lambda: Monitor("link")) as monitor:
        assert monitor.read() == []
        namespace.ip("link", "add", "d0", "type", "veth", "peer", "name", "p0")
        index = namespace.ifindex("d0")
        came = _next(monitor)
        assert ("link", index, "d0") in [(notice.what, notice.ifindex, notice.ifname) for notice in came]
        namespace.ip("link", "set", "d0", "name", "d1")
        renamed = _next(monitor)[-1]
        assert renamed.link is not None
        assert (renamed.ifindex, renamed.ifname, renamed.link.kind) == (index, "d1", "veth")
        namespace.ip("link", "del", "d1")
        assert Notice("link.gone", index, "d1") in [notice._replace(link=None) for notice in _next(monitor)]


def test_a_port_that_leaves_a_bridge_is_not_gone(veth: "Namespace") -> None:
    veth.ip("link", "add", "br0", "type", "bridge")
    veth.ip("link", "set", "va", "master", "br0")
    with veth.run(lambda: Monitor("link")) as monitor:
        veth.ip("link", "set", "va", "nomaster")
        notices = _next(monitor)
        assert "va" in [notice.ifname for notice in notices]
        assert "link.gone" not in [notice.what for notice in notices]


def test_settings_made_with_ethtool_are_announced(veth: "Namespace") -> None:
    index = veth.ifindex("va")
    with veth.live(LiveWriter) as machine, veth.run(Monitor) as monitor:
        veth.run(lambda: machine.request(Request("channels", {}, {"rx": 2}, index)))
        (channels,) = _of(_next(monitor), "channels")
        assert (channels.ifindex, channels.ifname, channels.settings["rx"]) == (index, "va", 2)
        veth.run(lambda: machine.request(Request("features", {}, {"rx-gro": True}, index)))
        (features,) = _of(_next(monitor), "features")
        assert (features.ifindex, features.settings) == (index, {})  # bits without names: to be read


# Sets the channels of the interface it is told, by the name it is told, and keeps its socket until its stdin ends.
CHANGER = """
import sys
from pathlib import Path
from machine import ethtool, nla
from machine.live import Live
live = Live()
Path("/proc/self/comm").write_text(sys.argv[1])
live.genl("ethtool", ethtool.CHANNELS_SET, ethtool.header(int(sys.argv[2])) + nla.u32(6, 2))
sys.stdin.read()
"""


def test_who_changed_a_setting_is_seen_while_its_socket_is_open(veth: "Namespace") -> None:
    """The kernel does not say it: who it may have been is whoever had a socket of that kind, and none before."""
    argv = ["ip", "netns", "exec", veth.name, sys.executable, "-c", CHANGER, "tuner", str(veth.ifindex("va"))]
    with veth.run(lambda: Monitor("ethtool")) as monitor:
        with subprocess.Popen(argv, stdin=subprocess.PIPE, cwd=ROOT):
            (channels,) = _of(veth.run(lambda: _next(monitor)), "channels")
        assert (channels.by, channels.settings["rx"]) == ("tuner", 2)
        subprocess.run(["ip", "netns", "exec", veth.name, "ethtool", "-L", "va", "rx", "1"], check=True)
        (channels,) = _of(veth.run(lambda: _next(monitor)), "channels")
        assert (channels.by, channels.settings["rx"]) == ("", 1)


def test_addresses_and_routes_say_who_asked(veth: "Namespace") -> None:
    with veth.run(lambda: Monitor("address", "route")) as monitor:
        with subprocess.Popen(["ip", "-n", veth.name, "addr", "add", "192.0.2.1/24", "dev", "va"]) as adding:
            (address,) = _of(_next(monitor), "address")
        assert address.about == Address(veth.ifindex("va"), 2, "192.0.2.1", 24, 0)
        assert address.port == adding.pid
        veth.ip("route", "add", "default", "via", "192.0.2.254")
        (route,) = _of(_next(monitor), "route")
        assert isinstance(route.about, Route)
        assert (route.about.dst, route.about.gateway, bool(route.port)) == ("", "192.0.2.254", True)
        veth.ip("addr", "del", "192.0.2.1/24", "dev", "va")
        gone: list[Notice] = []
        while not _of(gone, "address.gone"):
            gone += _next(monitor)


def test_devices_that_come_and_go_are_announced(namespace: "Namespace") -> None:
    with namespace.run(lambda: Monitor("device")) as monitor:
        namespace.ip("link", "add", "d0", "type", "veth", "peer", "name", "p0")
        about = [notice.about for notice in _of(_next(monitor), "device")]
        first = about[0]
        assert isinstance(first, Uevent)
        assert (first.action, first.subsystem, first.name) == ("add", "net", "p0")
        assert first.properties["IFINDEX"] == str(namespace.ifindex("p0"))


def _of(notices: list[Notice], what: str) -> list[Notice]:
    return [notice for notice in notices if notice.what == what]


def test_an_overrun_is_told_and_outlived(namespace: "Namespace") -> None:
    with namespace.run(lambda: Monitor("link", receive_buffer=4096)) as monitor:
        namespace.ip_batch([f"link add o{at} type veth peer name p{at}" for at in range(150)])
        first = _next(monitor)
        (resync,) = _of(first, "resync")
        assert resync.ifname == "link"
        assert resync.lost > 0
        assert len(first) < 300
        while monitor.read():
            pass
        namespace.ip("link", "add", "after", "type", "veth")
        assert "after" in [notice.ifname for notice in _next(monitor)]


def test_a_group_that_is_none_is_not_present() -> None:
    with pytest.raises(NotPresentError, match="no group 'routes'"):
        Monitor("routes")
