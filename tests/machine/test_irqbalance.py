"""irqbalance's socket, spoken by a peer that does what its source says: one request per connection, root only."""

import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine import MachineError, NotPresentError, UnsupportedError, irqbalance
from machine.change import LiveWriter


class Peer:
    """The daemon's end of the protocol: answers "setup", takes "settings ban irqs", drops whoever is not root."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.banned: list[int] = [7]
        self.requests: list[str] = []
        self.deaf = False
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        zeros = address.startswith("@@")
        self.listener.bind(
            address.replace("@", "\0") if zeros else "\0" + address[1:] if address[0] == "@" else address
        )
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.listener.listen(1)
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            with connection:
                request, ancillary, _, _ = connection.recvmsg(500, socket.CMSG_SPACE(12))
                if request == b"stop":
                    return
                if struct.unpack("=iII", ancillary[0][2])[1] == 0:
                    connection.sendall(self.reply(request.decode()).encode())

    def reply(self, request: str) -> str:
        self.requests.append(request)
        if request.startswith("settings ban irqs ") and not self.deaf:
            words = request.split()[3:]
            self.banned = [] if words == ["NONE"] else [int(word) for word in words]
        if request == "setup":
            irqs = "".join(f"IRQ {irq} LOAD 12 DIFF 3 CLASS 5 " for irq in self.banned)
            return f"SLEEP 10 {irqs}BANNED 00000000,0000000c"
        return ""

    def stop(self) -> None:
        irqbalance.ask(self.address, "stop")
        self.thread.join()
        self.listener.close()


@pytest.fixture(params=["abstract", "file", "nameless"])
def peer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Peer]:
    name = f"irqbalance{os.getpid()}{threading.get_ident() % 1000}.sock"
    made = Peer({"abstract": "@" + name, "file": str(tmp_path / name), "nameless": "@" * 108}[request.param])
    yield made
    made.stop()


@pytest.mark.root
def test_a_running_irqbalance_is_asked_and_told(peer: Peer) -> None:
    machine = LiveWriter()
    assert irqbalance.parse_setup(machine.irqbalance("setup")) == irqbalance.Setup(10, [7], "00000000,0000000c")
    machine.irqbalance_ban([46, 45, 46])
    assert peer.banned == [45, 46]
    machine.irqbalance_ban([])
    assert peer.banned == []
    assert "settings ban irqs NONE" in peer.requests


@pytest.mark.root
def test_a_ban_that_is_not_heeded_is_an_error(peer: Peer) -> None:
    peer.deaf = True
    with pytest.raises(MachineError, match=r"asked to ban \[45\], it bans \[7\]"):
        LiveWriter().irqbalance_ban([45])


@pytest.mark.root
def test_a_list_longer_than_its_buffer_is_refused_and_not_cut(peer: Peer) -> None:
    with pytest.raises(UnsupportedError, match="over its 499"):
        LiveWriter().irqbalance_ban(list(range(1000, 1200)))
    assert peer.banned == [7]


@pytest.mark.parametrize("irq", [0, -4])
def test_an_irq_that_would_end_its_list_is_refused(irq: int) -> None:
    with pytest.raises(MachineError, match="cannot be banned"):
        irqbalance.ban_request([irq, 45])


def test_without_irqbalance_it_is_not_present() -> None:
    with pytest.raises(NotPresentError, match="does not run"):
        irqbalance.find("Num RefCount Protocol Flags Type St Inode Path\n0: 2 0 0 0001 01 12 /run/dbus.sock\n")
    with pytest.raises(NotPresentError):
        irqbalance.ask("@irqbalance1.sock", "setup")


def test_the_socket_is_found_in_either_place() -> None:
    line = "0000000000000000: 00000002 00000000 00010000 0001 01 24518 "
    assert irqbalance.find(f"{line}@irqbalance745.sock\n") == "@irqbalance745.sock"
    assert irqbalance.find(f"{line}/run/irqbalance//irqbalance745.sock\n") == "/run/irqbalance//irqbalance745.sock"


@pytest.mark.parametrize("answer", ["", "SLEEP", "SLEEP x", "IRQ 4 LOAD 1", "SLEEP 10 IRQ x LOAD 0"])
def test_an_answer_that_is_none_is_one_clear_error(answer: str) -> None:
    with pytest.raises(MachineError, match="cannot read its answer"):
        irqbalance.parse_setup(answer)
