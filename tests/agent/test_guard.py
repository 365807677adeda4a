"""The management path, computed on real bonds, VLANs and bridges."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from agent import guard
from agent.guard import Path
from machine.rtnl import Link
from tests.agent.space import ROOT, Space, wait_for
from wire.facts import Nic
from wire.policy import Blast, Change, FileWrite, Setting

CHANGE = Change(knob="channels", target="va", op=FileWrite("/x", "0", "1"), nic="va", blast=Blast.LINK)
SETTING = Setting(knob="channels", nic="va", values={"rx": 2})

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 10951 1 0 100 0 0 10 0
   1: 0100090A:0016 0200090A:D2F0 01 00000000:00000000 02:000A7214 00000000     0        0 18111 2 0 20 4 29 10 -1
   2: 0100090A:D2F0 0300090A:0016 01 00000000:00000000 02:000A7214 00000000     0        0 18112 2 0 20 4 29 10 -1
   3: 0100090A:0016 0400090A:D2F0 06 00000000:00000000 02:000A7214 00000000     0        0 18113 2 0 20 4 29 10 -1
"""
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue
   0: 0000000000000000FFFF00000100090A:0016 0000000000000000FFFF00000900090A:C001 01 00000000:00000000
   1: B80D0120000000000000000001000000:0016 B80D0120000000000000000002000000:C001 01 00000000:00000000
"""


@pytest.mark.skipif(sys.byteorder != "little", reason="the text was recorded on a little-endian machine")
def test_ssh_peers_are_established_connections_to_our_port() -> None:
    assert guard.parse_peers(TCP, 22) == ["10.9.0.2"]
    assert guard.parse_peers(TCP6, 22) == ["10.9.0.9", "2001:db8::2"]
    assert guard.parse_peers(TCP, 2222, {"18111"}) == ["10.9.0.2"], "an SSH server's own socket, whatever its port"
    assert guard.parse_peers("", 22) == []


def path(space: Space, *peers: str) -> dict[str, str]:
    nics = space.facts().nics
    return space.run(lambda writer: guard.management(writer, nics, peers))


@pytest.mark.root
def test_nothing_is_on_the_path_of_a_host_without_routes(space: Space) -> None:
    assert path(space, "192.0.2.1") == {}


@pytest.mark.root
def test_default_routes_of_both_families_and_every_next_hop(space: Space) -> None:
    space.ip("link add vc type veth peer name vd")
    space.ip("link set vc up")
    space.ip("link set vd up")
    space.ip("addr add 10.9.0.1/24 dev va")
    space.ip("addr add 10.8.0.1/24 dev vc")
    space.ip("route add default nexthop via 10.9.0.2 dev va nexthop via 10.8.0.2 dev vc")
    assert path(space) == {"va": "default route", "vc": "default route"}
    space.ip("route del default")
    space.ip("-6 addr add 2001:db8::1/64 dev vc nodad")
    space.ip("-6 route add default via 2001:db8::2 dev vc")
    assert path(space) == {"vc": "default route"}


@pytest.mark.root
def test_the_route_to_a_peer_counts_and_other_routes_do_not(space: Space) -> None:
    space.ip("addr add 10.9.0.1/24 dev va")
    space.ip("route add 192.0.2.0/24 via 10.9.0.2")
    assert path(space) == {}
    assert path(space, "192.0.2.7", "198.51.100.1") == {"va": "route to 192.0.2.7"}
    space.ip("route add unreachable 203.0.113.0/24")
    space.ip("route add blackhole 203.0.114.0/24")
    assert path(space, "203.0.113.1", "203.0.114.1") == {}


def test_it_leads_down_a_vlan_on_a_bond_to_both_legs() -> None:
    links = {
        link.ifindex: link
        for link in (
            Link(2, "eth0", master=4, slave_kind="bond"),
            Link(3, "eth1", master=4, slave_kind="bond"),
            Link(4, "bond0", kind="bond"),
            Link(5, "bond0.5", kind="vlan", link=4),
            Link(6, "veth0", kind="veth", link=3),
            Link(7, "eth2.9", kind="vlan", link=2, netnsid=1),
            Link(8, "eth2"),
        )
    }
    assert guard.down(5, links) == {5, 4, 3, 2}
    assert guard.down(2, links) == {2}, "what stands on it is not below it"
    assert guard.down(6, links) == {6}, "a veth does not stand on its peer"
    assert guard.down(7, links) == {7}, "the index is one of another namespace"
    assert guard.down(99, links) == set()


@pytest.mark.root
def test_it_leads_down_a_macvlan_and_a_bridge(space: Space) -> None:
    for command in (
        "link add br7 type bridge",
        "link set va master br7",
        "link set br7 up",
        "link add link br7 name mv7 type macvlan mode bridge",
        "link set mv7 up",
        "addr add 10.9.0.1/24 dev mv7",
        "route add default via 10.9.0.2",
    ):
        space.ip(command)
    assert path(space) == dict.fromkeys(("mv7", "br7", "va"), "default route")


@pytest.fixture
def peer(space: Space) -> Iterator[str]:
    """A second namespace at the other end of the pair."""
    name = f"{space.name}-p"
    subprocess.run(["ip", "netns", "add", name], check=True)
    space.ip(f"link set vb netns {name}")
    for command in ("addr add 10.9.0.2/24 dev vb", "link set vb up"):
        subprocess.run(["ip", "-n", name, *command.split()], check=True)
    space.ip("addr add 10.9.0.1/24 dev va")
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)


_SERVER = """
import ctypes, socket, sys
if sys.argv[1] != "22":
    ctypes.CDLL(None).prctl(15, b"sshd-session")  # PR_SET_NAME
s = socket.create_server(("", int(sys.argv[1])))
c = s.accept()
print("up", flush=True)
input()
"""
_PATH = """
from agent.guard import management
from collectors.run import collect_facts
from machine.live import Live
from tuners.hostfacts import HostFacts
print(management(Live(), HostFacts(collect_facts(Live(), ["nic"])).nics))
"""
_CLIENT = "import socket, sys; s = socket.create_connection(('10.9.0.1', int(sys.argv[1])), 30); input()"


@pytest.mark.root
@pytest.mark.parametrize("port", ["22", "2022"])
def test_a_live_ssh_peer_is_on_the_path(space: Space, peer: str, port: str) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": ROOT}
    with subprocess.Popen(space.inside(sys.executable, "-c", _SERVER, port), **pipes) as server:  # type: ignore[call-overload]
        wait_for(lambda: f":{port} " in space.shell("ss -Hltn"), "a listener")
        command = ["ip", "netns", "exec", peer, sys.executable, "-c", _CLIENT, port]
        with subprocess.Popen(command, **pipes) as client:  # type: ignore[call-overload]
            assert server.stdout.readline() == b"up\n"
            assert space.output(_PATH) == "{'va': 'SSH from 10.9.0.2'}\n"
            for process in (client, server):
                process.communicate(b"\n", timeout=30)
    assert space.output(_PATH) == "{}\n"


def test_the_physical_function_of_a_vf_on_the_path() -> None:
    nics = {
        "vf": Nic(key="vf", ifname="eth1", ifindex=5, address="0000:4b:02.0", pf="0000:4b:00.0"),
        "pf": Nic(key="pf", ifname="eth0", ifindex=2, address="0000:4b:00.0"),
        "other": Nic(key="other", ifname="eth2", ifindex=3, address="0000:4c:00.0"),
    }
    assert guard.keys({5: "default route"}, nics) == {
        "vf": "default route",
        "pf": "default route, through a virtual function",
    }
    assert guard.keys({2: "default route"}, nics) == {"pf": "default route"}


@pytest.mark.parametrize(
    ("blast", "allow", "is_refused"),
    [
        (Blast.LINK, [], True),
        (Blast.LINK, [Blast.LINK], False),
        (Blast.LINK, [Blast.BLACKHOLE], True),
        (Blast.BLACKHOLE, [Blast.LINK], True),
        (Blast.BLACKHOLE, [Blast.BLACKHOLE], False),
        (Blast.SAFE, [], False),
        (Blast.STARVATION, [], False),
    ],
)
def test_what_can_cut_the_path_needs_its_own_allowance(blast: Blast, allow: list[Blast], is_refused: bool) -> None:
    change = Change(knob="channels", target="va", op=CHANGE.op, nic="va", blast=blast)
    setting = Setting(knob="channels", nic="va", values={"rx": 2}, allow=allow)
    assert bool(guard.refused([change], [setting], Path({"va": "default route"}))) is is_refused
    assert guard.refused([change], [setting], Path({"vb": "default route"})) == {}


def test_the_reason_says_what_to_allow() -> None:
    (reason,) = guard.refused([CHANGE], [SETTING], Path({"va": "SSH from 10.9.0.2"})).values()
    assert reason == "va carries the SSH from 10.9.0.2; needs allow: [link]"


def test_a_broker_name_that_does_not_resolve_gives_no_address() -> None:
    assert guard.addresses("no-such-host.invalid", 1883) == []
    assert guard.addresses("127.0.0.1", 1883) == ["127.0.0.1"]
