"""Disciplines, MTU and kernel settings through whole transactions, on a veth pair in a namespace of its own."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collectors.run import collect_facts
from tests.agent.space import NIC, ROOT, Space, status
from wire.policy import Setting, Value, Values

pytestmark = pytest.mark.root
SEEN = ("nic", "qdisc", "sysctl", "ethtool")


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Space]:
    made = Space(tmp_path / "state")
    yield made
    made.close()


def seen(space: Space) -> Any:
    """All that these knobs can change."""
    facts = space.run(lambda writer: collect_facts(writer, SEEN))
    return msgspec.to_builtins([fact for fact in facts if fact.key in (NIC, "sysctl", "over")])


def test_disciplines_of_a_multi_queue_nic_are_replaced_and_come_back(space: Space) -> None:
    before = seen(space)
    wanted = [Setting(knob="qdisc", nic=NIC, values={"discipline": "pfifo", "limit": 77, "txqueuelen": 500})]
    assert status(space.apply(settings=wanted)) == {"qdisc": "applied"}
    shown = space.shell(f"tc qdisc show dev {NIC}")
    assert shown.count("limit 77p") == 4
    assert "qdisc mq 7268: root" in shown
    assert " qlen 500" in space.ip(f"link show {NIC}")
    assert status(space.apply(settings=wanted, generation=2)) == {"qdisc": "unchanged"}

    space.deadman("rollback")
    assert seen(space) == before


def test_kernel_settings_are_raised_only_and_come_back(space: Space) -> None:
    before = seen(space)
    values: Values = {
        "net.core.somaxconn": "=> 100",
        "net.ipv4.tcp_rmem": "=> 8192 8192 99000000",
        "net.ipv4.tcp_fin_timeout": "7",
    }
    wanted = [Setting(knob="sysctl_net", values=values)]
    made = space.apply(settings=wanted)
    assert status(made) == {"sysctl_net": "applied"}
    read = "cat /proc/sys/net/core/somaxconn /proc/sys/net/ipv4/tcp_rmem /proc/sys/net/ipv4/tcp_fin_timeout"
    somaxconn, tcp_rmem, fin_timeout = space.shell(read).splitlines()
    assert int(somaxconn) > 100, "never lowered"
    assert tcp_rmem.split() == ["8192", "131072", "99000000"]
    assert fin_timeout == "7"
    hosts = [Setting(knob="sysctl_net", values={"net.core.netdev_budget": "400"})]
    assert status(space.apply(settings=hosts, generation=2)) == {"sysctl_net": "unsupported"}, "not the namespace's"

    space.deadman("rollback")
    assert seen(space) == before


@pytest.fixture
def peer(space: Space) -> Iterator[str]:
    """The other end of the pair in a namespace of its own, with an address; a MACVLAN above this end."""
    name = f"{space.name}-peer"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        space.ip(f"link set vb netns {name}")
        space.ip(f"link add link {NIC} name over type macvlan")
        space.ip(f"addr add 192.0.2.1/24 dev {NIC}")
        for line in ("link set lo up", "addr add 192.0.2.2/24 dev vb", "link set vb up"):
            subprocess.run(["ip", "-n", name, *line.split()], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def mtus(space: Space) -> list[int]:
    return [json.loads(space.ip(f"-j link show {name}"))[0]["mtu"] for name in (NIC, "over")]


def raised(**more: Value) -> list[Setting]:
    return [Setting(knob="link", nic=NIC, values={"mtu": 4000, **more})]


def test_an_mtu_is_raised_only_when_the_neighbour_answers(space: Space, peer: str) -> None:
    before = seen(space)
    refused = space.apply(settings=raised())["outcomes"][0]
    assert refused["status"] == "refused"
    assert "mtu_probe" in refused["reason"]
    failed = space.apply(settings=raised(mtu_probe="192.0.2.2"), generation=2)
    assert status(failed) == {"link": "failed"}, failed
    assert "192.0.2.2 does not answer a packet of 4000 bytes" in failed["reason"]
    assert seen(space) == before

    subprocess.run(["ip", "-n", peer, "link", "set", "vb", "mtu", "4000"], check=True)
    assert status(space.apply(settings=raised(mtu_probe="192.0.2.2"), generation=3)) == {"link": "applied"}
    assert mtus(space) == [4000, 4000], "the MACVLAN follows"
    space.deadman("rollback")
    assert seen(space) == before
    assert mtus(space) == [1500, 1500]


def test_a_lowered_mtu_comes_back_with_all_that_followed(space: Space, peer: str) -> None:
    assert peer
    before = seen(space)
    wanted = [Setting(knob="link", nic=NIC, values={"mtu": 1400})]
    assert status(space.apply(settings=wanted)) == {"link": "applied"}
    assert mtus(space) == [1400, 1400]
    space.deadman("rollback")
    assert seen(space) == before


HEARS = """
import sys
from collectors.run import collect_facts
from machine.live import Live
machine = Live()
collect_facts(machine, ("lldp",))
print("listening", flush=True)
sys.stdin.readline()
print(len(collect_facts(machine, ("lldp",))), flush=True)
"""
SPEAKS = """
import socket
sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sender.bind(("vb", 0))
frame = "0180c200000e525400aa000188cc 020704525400aa0001 04050565746837 06020078 fe0600120f042414 0000"
sender.send(bytes.fromhex(frame))
"""


def test_what_the_agent_heard_of_the_neighbour_is_proof_for_its_transaction(
    space: Space, peer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RACKHAND_RUN", str(tmp_path / "run"))
    command = space.inside(sys.executable, "-c", HEARS)
    agent = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert agent.stdin
    assert agent.stdout
    assert agent.stdout.readline() == "listening\n"
    subprocess.run(["ip", "netns", "exec", peer, sys.executable, "-c", SPEAKS], check=True)
    agent.stdin.write("\n")
    agent.stdin.close()
    assert agent.stdout.readline() == "1\n"
    assert agent.wait() == 0
    assert status(space.apply(settings=raised())) == {"link": "applied"}, "frames of 9236 bytes were announced"
    assert mtus(space) == [4000, 4000]
