"""The switch's lldpd against another lldpd: a bridge whose ports lead into a second namespace."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hardware_lab import daemon, far_end
from hardware_lab.command import answers
from hardware_lab.far_end import FarEnd
from hardware_lab.wires import Wires

pytestmark = pytest.mark.root
WAIT_S = 60.0
AS_ROOT = ("setpriv", "--no-new-privs")
TAPS = ("s1n0", "s1n1")


@pytest.fixture
def wires() -> Iterator[Wires]:
    """A lab's wires; the taps are veth pairs whose other ends, n0 and n1, are a server's NICs."""
    lab, server = Wires(f"t{os.getpid()}"), Wires(f"t{os.getpid()}s")
    try:
        for space in (lab, server):
            space.lay()
        bridge = lab.bridge("data")
        for at, tap in enumerate(TAPS):
            lab.ip(
                f"link add {tap} type veth peer name n{at} address 52:54:00:1a:01:0{at + 1} netns {server.namespace}"
            )
            lab.ip(f"link set {tap} master {bridge} up")
            server.ip(f"link set n{at} up")
        yield lab
    finally:
        lab.remove()
        server.remove()


@pytest.fixture
def server(wires: Wires, tmp_path: Path) -> Iterator[Path]:
    """The socket of the server's own lldpd."""
    socket = tmp_path / "server.sock"
    settings = tmp_path / "server.conf"
    settings.write_text("configure lldp tx-interval 1\n")
    inside = Wires(f"t{os.getpid()}s").inside(
        *AS_ROOT, "lldpd", "-d", "-u", str(socket), "-O", str(settings), "-I", "n*"
    )
    daemon.start(inside, tmp_path, "server")
    yield socket
    daemon.stop(tmp_path, "server")


def test_switch_and_server_see_each_other_through_the_bridges_ports(wires: Wires, server: Path, tmp_path: Path) -> None:
    switch = FarEnd(wires, tmp_path / "switch")
    switch.start(dict(zip(TAPS, ("port3", "port4"), strict=True)))
    try:
        said = [*AS_ROOT, "lldpcli", "-u", str(server), "-f", "json0", "show", "neighbors"]

        def seen() -> list[far_end.Neighbour]:
            text = answers(said)
            return far_end.parse_neighbours(text) if text.strip() else []

        assert daemon.await_(lambda: [one.port for one in seen()] == ["port3", "port4"], WAIT_S), seen()
        for one in seen():
            assert (one.system, one.chassis, one.description) == (far_end.SYSTEM, far_end.MAC, one.port)
        heard = {"s1n0": "52:54:00:1a:01:01", "s1n1": "52:54:00:1a:01:02"}
        assert daemon.await_(lambda: {one.tap: one.port for one in switch.neighbours()} == heard, WAIT_S)
        switch.name_ports({"s1n1": "renamed"})
        assert daemon.await_(lambda: [one.port for one in seen()] == ["port3", "renamed"], WAIT_S), seen()
    finally:
        switch.stop()
    assert not switch.running()


def test_no_neighbour_is_none() -> None:
    assert far_end.parse_neighbours('{"lldp": [{}]}') == []
    assert far_end.parse_neighbours('{"lldp": []}') == []
    with pytest.raises(msgspec.DecodeError):
        far_end.parse_neighbours("lldpcli: nobody")
