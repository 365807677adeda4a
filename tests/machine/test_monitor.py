"""Announcements in real namespaces; an overrun is told and outlived."""

import select
from typing import TYPE_CHECKING

import pytest

from machine import NotPresentError
from machine.change import LiveWriter
from machine.monitor import RESYNC, Monitor, Notice

if TYPE_CHECKING:
    from tests.machine.conftest import Namespace

pytestmark = pytest.mark.root
DEADLINE_S = 30


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
        veth.run(lambda: machine.ethtool_set(index, "channels", {"rx": 2}))
        assert Notice("channels", index, "va") in _next(monitor)
        veth.run(lambda: machine.ethtool_set(index, "features", {"rx-gro": True}))
        assert Notice("features", index, "va") in _next(monitor)


def test_an_overrun_is_told_and_outlived(namespace: "Namespace") -> None:
    with namespace.run(lambda: Monitor("link", receive_buffer=4096)) as monitor:
        namespace.ip_batch([f"link add o{at} type veth peer name p{at}" for at in range(150)])
        first = _next(monitor)
        assert RESYNC in first
        assert len(first) < 300
        while monitor.read():
            pass
        namespace.ip("link", "add", "after", "type", "veth")
        assert "after" in [notice.ifname for notice in _next(monitor)]


def test_a_group_that_is_none_is_not_present() -> None:
    with pytest.raises(NotPresentError, match="no group 'routes'"):
        Monitor("routes")
