"""Probes pass where things work, fail where they do not, and are chosen only when they pass."""

import socket
import subprocess
from collections.abc import Iterator

import pytest

from agent import probes
from machine import Writer
from tests.agent.space import Space

pytestmark = pytest.mark.root


@pytest.fixture
def peer(space: Space) -> Iterator[str]:
    """A gateway at the other end of the pair, with an IPv4 and an IPv6 address."""
    name = f"{space.name}-g"
    subprocess.run(["ip", "netns", "add", name], check=True)
    space.ip(f"link set vb netns {name}")
    for command in ("addr add 10.9.0.2/24 dev vb", "-6 addr add 2001:db8::2/64 dev vb nodad", "link set vb up"):
        subprocess.run(["ip", "-n", name, *command.split()], check=True)
    space.ip("addr add 10.9.0.1/24 dev va")
    space.ip("-6 addr add 2001:db8::1/64 dev va nodad")
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)


def names(found: list[probes.Probe]) -> list[str]:
    return [probe.name for probe in found]


def test_gateways_of_both_families_answer_until_they_are_gone(space: Space, peer: str) -> None:
    space.ip("route add default via 10.9.0.2")
    space.ip("-6 route add default via 2001:db8::2")
    index = space.ifindex()
    expected = ["gateway 10.9.0.2 answers", "gateway 2001:db8::2 answers", f"interface {index} has a carrier"]

    def check(writer: Writer) -> None:
        chosen = probes.choose(writer, [], [index], 20)
        assert names(chosen) == expected
        assert probes.failing(chosen, 20) == []
        subprocess.run(["ip", "-n", peer, "addr", "del", "10.9.0.2/24", "dev", "vb"], check=True)
        subprocess.run(["ip", "-n", peer, "neigh", "flush", "dev", "vb"], check=True)
        assert probes.failing(chosen[:1], 4) == expected[:1]
        subprocess.run(["ip", "-n", peer, "addr", "add", "10.9.0.2/24", "dev", "vb"], check=True)
        assert probes.failing(chosen, 30) == []
        subprocess.run(["ip", "-n", peer, "link", "set", "vb", "down"], check=True)
        assert probes.failing(chosen[2:], 0) == expected[2:]

    space.run(check)


def test_a_gateway_that_never_answered_says_nothing(space: Space) -> None:
    space.ip("addr add 10.9.0.1/24 dev va")
    space.ip("route add default via 10.9.0.77")
    space.ip("link set vb down")
    assert space.run(lambda writer: names(probes.choose(writer, [], [space.ifindex()], 0.3))) == []


def test_a_broker_is_reached_or_not(space: Space) -> None:
    def check(writer: Writer) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
            endpoint = ("127.0.0.1", listener.getsockname()[1])
            chosen = probes.choose(writer, [endpoint, ("127.0.0.1", 1)], [], 0)
            assert names(chosen) == [f"broker 127.0.0.1:{endpoint[1]} answers"]
        assert probes.failing(chosen, 0) == names(chosen)

    space.ip("link set lo up")
    space.run(check)


def test_waiting_ends_with_an_order_to_stop() -> None:
    never = probes.Probe("never", lambda: False)
    orders = iter(["", "", "told to stop"])
    assert probes.failing([never], 3600, lambda: next(orders)) == ["never"]


def test_each_is_tried_once_even_without_time() -> None:
    tries = iter([True])
    assert probes.failing([probes.Probe("once", lambda: next(tries))], -1) == []
    assert list(tries) == []
