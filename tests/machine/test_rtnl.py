"""Links, counters, addresses and routes of real namespaces, against what ip(8) says of them."""

import os
import struct
import threading
from typing import TYPE_CHECKING

import pytest

from machine import BusyError, MachineError, NotPresentError, netlink, nla, rtnl
from machine.live import Live

if TYPE_CHECKING:
    from tests.machine.conftest import Namespace

pytestmark = pytest.mark.root


def test_a_thousand_links_agree_with_ip(namespace: "Namespace") -> None:
    namespace.ip_batch(
        [
            f"link add a{at} address 02:00:5e:00:{at >> 8:02x}:{at & 255:02x} type veth peer name b{at}"
            for at in range(500)
        ]
    )
    with namespace.live(Live) as machine:
        links = rtnl.read_links(machine)
        stats = rtnl.read_link_stats(machine)
    said = namespace.ip_json("-d", "link")
    assert len(links) == len(said) == len(stats) == 1001
    for link, entry in zip(links, said, strict=True):
        assert (link.ifindex, link.ifname, link.mtu, link.mac, link.num_tx, link.num_rx) == (
            entry["ifindex"],
            entry["ifname"],
            entry["mtu"],
            entry["address"],
            entry["num_tx_queues"],
            entry["num_rx_queues"],
        )
        assert link.kind == entry.get("linkinfo", {}).get("info_kind", "")
        assert link.operstate == entry["operstate"].lower()
        assert link.up == ("UP" in entry["flags"])


def test_a_bridge_port_names_its_bridge_and_a_link_its_other_names(veth: "Namespace") -> None:
    veth.ip_batch(
        [
            "link add br0 type bridge",
            "link set va master br0",
            "link add link vb name mv0 type macvlan",
            "link property add dev vb altname a-longer-name-for-vb",
            "link property add dev vb altname second",
        ]
    )
    with veth.live(Live) as machine:
        links = {link.ifname: link for link in rtnl.read_links(machine)}
        alone = rtnl.read_link(machine, links["va"].ifindex)
    bridge, port, upper, peer = (links[name] for name in ("br0", "va", "mv0", "vb"))
    assert (bridge.kind, port.master, port.slave_kind) == ("bridge", bridge.ifindex, "bridge")
    assert (upper.kind, upper.link) == ("macvlan", peer.ifindex)
    assert sorted(peer.altnames) == ["a-longer-name-for-vb", "second"]
    assert peer.perm_mac == ""
    assert alone == port


def test_a_vlan_over_a_bond_on_a_pci_nic() -> None:
    """This message is written by hand, kernels without VLANs and bonds run the tests too."""
    vlan = nla.nest(18, nla.text(1, "vlan"), nla.nest(2, nla.attr(1, struct.pack("=H", 4094))), nla.text(4, "bond"))
    names = nla.nest(52, nla.text(53, "enp75s0f0"))
    payload = (
        struct.pack("=BxHiII", 0, 1, 7, 0x1043, 0) + nla.text(3, "bond0.4094") + nla.u32(5, 3) + nla.u32(10, 9) + vlan
        + nla.u8(16, 6) + nla.u8(33, 1) + nla.attr(54, bytes.fromhex("b49691aabbcc")) + names
        + nla.text(56, "0000:4b:00.0") + nla.text(57, "pci") + nla.attr(37, struct.pack("=i", 0))
    )  # fmt: skip
    assert rtnl.parse_link(payload) == rtnl.Link(
        ifindex=7,
        ifname="bond0.4094",
        flags=0x1043,
        up=True,
        carrier=True,
        operstate="up",
        hwtype=1,
        perm_mac="b4:96:91:aa:bb:cc",
        master=9,
        link=3,
        kind="vlan",
        slave_kind="bond",
        vlan_id=4094,
        altnames=["enp75s0f0"],
        parent_dev="0000:4b:00.0",
        parent_bus="pci",
        netnsid=0,
    )


def test_a_peer_in_another_namespace_has_its_id(namespace: "Namespace") -> None:
    inner = type(namespace)()
    try:
        namespace.ip("link", "add", "va", "type", "veth", "peer", "name", "vb", "netns", inner.name)
        with namespace.live(Live) as machine:
            links = {link.ifname: link for link in rtnl.read_links(machine)}
        assert links["va"].netnsid is not None
        assert links["lo"].netnsid is None
    finally:
        inner.close()


def test_counters_count(veth: "Namespace") -> None:
    veth.ip_batch(["addr add 10.9.0.1/24 dev va", "addr add 10.9.0.2/24 dev vb"])
    with veth.live(Live) as machine:
        before = rtnl.read_link_stats(machine)
        veth.python(
            "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
            "s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1);"
            "s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'va');"
            "[s.sendto(b'x' * 100, ('10.9.0.255', 9)) for _ in range(10)]"
        )
        after = rtnl.read_link_stats(machine)
    index = veth.ifindex("va")
    assert after[index]["tx_packets"] - before[index]["tx_packets"] >= 10
    assert after[index]["tx_bytes"] - before[index]["tx_bytes"] >= 10 * 142
    assert set(after[index]) <= set(rtnl.STATS64)


def test_addresses_and_routes_agree_with_ip(veth: "Namespace") -> None:
    veth.ip_batch(
        [
            "addr add 10.9.0.1/24 dev va",
            "addr add fd09::1/64 dev va nodad",
            "route add default via 10.9.0.254 metric 7",
            "route add 10.8.0.0/16 nexthop via 10.9.0.3 nexthop via 10.9.0.4 weight 3",
            "route add 10.7.0.0/16 via inet6 fd09::5 dev va",
            "route add fd08::/32 via fd09::6",
            "route add 10.6.0.0/16 dev vb table 100",
        ]
    )
    with veth.live(Live) as machine:
        addresses = rtnl.read_addresses(machine)
        routes = rtnl.read_routes(machine)
        chosen = rtnl.read_route_to(machine, "8.8.8.8")
        with pytest.raises(NotPresentError, match="unreachable"):
            rtnl.read_route_to(machine, "2001:db8::1")
        with pytest.raises(MachineError, match="not an IP address"):
            rtnl.read_route_to(machine, "example.com")
    va, vb = veth.ifindex("va"), veth.ifindex("vb")
    assert {(at.address, at.prefixlen, at.ifindex) for at in addresses} >= {("10.9.0.1", 24, va), ("fd09::1", 64, va)}
    found = {(at.dst, at.prefixlen, at.gateway, at.oif, at.table, at.priority) for at in routes}
    assert found >= {
        ("", 0, "10.9.0.254", va, 254, 7),
        ("10.8.0.0", 16, "10.9.0.3", va, 254, 0),
        ("10.8.0.0", 16, "10.9.0.4", va, 254, 0),
        ("10.7.0.0", 16, "fd09::5", va, 254, 0),
        ("fd08::", 32, "fd09::6", va, 254, 1024),
        ("10.6.0.0", 16, "", vb, 100, 0),
    }
    assert (chosen.oif, chosen.gateway, chosen.source) == (va, "10.9.0.254", "10.9.0.1")


def test_a_device_that_is_gone_is_not_present(veth: "Namespace") -> None:
    index = veth.ifindex("va")
    with veth.live(Live) as machine:
        veth.ip("link", "del", "va")
        with pytest.raises(NotPresentError, match="No such device"):
            rtnl.read_link(machine, index)


def test_devices_that_come_and_go_during_dumps_break_none(namespace: "Namespace") -> None:
    namespace.ip_batch([f"link add k{at} type veth peer name l{at}" for at in range(150)])
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            namespace.ip_batch([line for at in range(20) for line in (f"link add x{at} type veth", f"link del x{at}")])

    worker = threading.Thread(target=churn)
    worker.start()
    answers = interrupted = 0
    try:
        with namespace.live(Live) as machine:
            while answers < 100:
                try:
                    links = [link.ifname for link in rtnl.read_links(machine)]
                except BusyError as error:
                    assert error.retry
                    interrupted += 1
                    continue
                answers += 1
                assert sum(name[0] in "kl" for name in links) == 301
                assert len(links) == len(set(links))
    finally:
        stop.set()
        worker.join()


def test_twenty_thousand_requests_leak_nothing(veth: "Namespace") -> None:
    index = veth.ifindex("va")
    with veth.live(Live) as machine:

        def resident() -> int:
            with open("/proc/self/statm") as handle:  # noqa: PTH123
                return int(handle.read().split()[1]) * os.sysconf("SC_PAGESIZE")

        for _ in range(2000):
            rtnl.read_link(machine, index)
        handles, memory = len(os.listdir("/proc/self/fd")), resident()  # noqa: PTH208
        for _ in range(20_000):
            rtnl.read_link(machine, index)
        assert len(os.listdir("/proc/self/fd")) < handles + 50  # noqa: PTH208
        assert resident() - memory < 2 << 20


def test_a_late_answer_is_not_taken_for_the_next(veth: "Namespace") -> None:
    """What an abandoned request left in the socket has another sequence number and is passed over."""

    def ask() -> list[str]:
        channel = netlink.Channel(netlink.ROUTE)
        body = struct.pack("=BxHiII", 0, 0, 1, 0, 0)
        late = struct.pack("=IHHII", 16 + len(body), rtnl.GETLINK, 5, 1, 0) + body
        channel._socket.sendto(late, (0, 0))
        body = struct.pack("=BxHiII", 0, 0, veth.ifindex("va"), 0, 0)
        replies = channel.request(rtnl.GETLINK, body, "link")
        channel.close()
        return [rtnl.parse_link(reply.payload).ifname for reply in replies]

    assert veth.run(ask) == ["va"]


def test_a_request_that_makes_no_sense_is_one_clear_error(veth: "Namespace") -> None:
    with veth.live(Live) as machine:
        with pytest.raises(MachineError, match="rtnetlink request 18"):
            machine.rtnl(rtnl.GETLINK, b"\0" * 3)
        with pytest.raises(MachineError, match="rtnetlink request 9999"):
            machine.rtnl(9999, b"\0" * 16)
        assert rtnl.read_links(machine)


@pytest.mark.parametrize("family", ["no-such-family", "x" * 100, ""])
def test_a_family_the_kernel_lacks_is_one_clear_error(family: str) -> None:
    with Live() as machine, pytest.raises(MachineError):
        machine.genl(family, 1, b"", dump=True)


def test_groups_of_a_family_are_found() -> None:
    with Live() as machine:
        family = machine.family("ethtool")
    assert family.id > netlink.CTRL
    assert family.groups["monitor"] > 0
    assert nla.number(nla.table(nla.u32(1, family.id))[1]) == family.id
