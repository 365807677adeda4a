"""What is sent to a port, in ethtool netlink's own bytes, and what happens when its link does not come back."""

from collections.abc import Callable

import pytest

from machine import MachineError, Reply, ethtool, link, mtu, nla, rtnl
from machine.live import Live
from wire.policy import Request, Values

LINKS = [rtnl.Link(ifindex=3, ifname="eth0", up=True, carrier=True, mtu=1500)]


class Port(Live):
    """A NIC that notes what it is told."""

    told: tuple[int, bytes] = (0, b"")

    def genl(self, family: str, command: int, payload: bytes, *, dump: bool = False) -> list[Reply]:
        assert (family, dump) == ("ethtool", False)
        head = ethtool.header(3)
        assert payload.startswith(head)
        self.told = (command, payload[len(head) :])
        return []


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Port:
    monkeypatch.setattr(rtnl, "read_link", lambda _machine, _ifindex: LINKS[0])  # pyright: ignore
    return Port()


def listed(*names: str) -> bytes:
    """A bitset without mask: NOMASK, and the bits that are set."""
    return nla.attr(1, b"") + nla.nest(3, *(nla.nest(1, nla.text(2, name)) for name in names))


@pytest.mark.parametrize(
    ("send", "values", "command", "attributes"),
    [
        (link.set_eee, {"enabled": True}, 24, nla.u8(5, 1)),
        (link.set_eee, {"enabled": False}, 24, nla.u8(5, 0)),
        (link.set_pause, {"autoneg": False, "tx": True}, 22, nla.u8(2, 0) + nla.u8(4, 1)),
        (link.set_fec, {"modes": "auto,RS"}, 30, nla.nest(2, listed("RS")) + nla.u8(3, 1)),
        (link.set_modes, {"mode": "auto: A,B"}, 5, nla.u8(2, 1) + nla.nest(3, listed("A", "B"))),
        (link.set_modes, {"mode": "fixed 1000 full: A"}, 5, nla.u8(2, 0) + nla.u32(5, 1000) + nla.u8(6, 1)),
        (link.set_modes, {"mode": "fixed unknown unknown: "}, 5, nla.u8(2, 0) + nla.u32(5, 2**32 - 1) + nla.u8(6, 255)),
    ],
)
def test_each_request_is_what_the_kernel_reads(
    port: Port, send: Callable[[Live, Request], None], values: Values, command: int, attributes: bytes
) -> None:
    send(port, Request("any", {}, values, 3, "eth0"))
    assert port.told == (command, attributes)


def test_modes_are_spelt_as_they_are_set() -> None:
    fixed = ethtool.LinkModes(1000, 1000, "full", autoneg=False, advertised=("B", "A"))
    assert link.spell_modes(fixed) == "fixed 1000 full: A,B"
    assert link.spell_modes(fixed._replace(autoneg=True)) == "auto: A,B"
    assert link.spell_modes(ethtool.LinkModes(None, None, "", autoneg=False)) == "fixed unknown unknown: "


def test_a_link_that_does_not_come_back_is_an_error(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    later = [LINKS[0], rtnl.Link(ifindex=3, up=True)]
    monkeypatch.setattr(rtnl, "read_link", lambda _machine, _ifindex: later.pop(0) if len(later) > 1 else later[0])  # pyright: ignore
    monkeypatch.setattr(link, "CARRIER_S", 0.0)
    with pytest.raises(MachineError, match="after pause: the link did not come back within 0 s"):
        link.set_pause(port, Request("pause", {}, {"rx": False}, 3, "eth0"))


def test_an_echo_is_as_long_as_asked_and_sums_to_nothing() -> None:
    packet = mtu.echo(2, 4000, 7)
    assert (len(packet), packet[:2]) == (4000 - 20, b"\x08\x00")
    assert mtu.checksum(packet) == 0
    assert len(mtu.echo(10, 4000, 7)) == 4000 - 40


@pytest.mark.root
def test_who_is_there_answers_a_whole_packet() -> None:
    assert mtu.answers("127.0.0.1", 40000)
    assert not mtu.answers("127.0.0.1", 70000), "longer than a packet can be"
