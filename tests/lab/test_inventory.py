"""What the inventory says of the server is what QEMU was told to build."""

import pytest

from tests.lab.conftest import Bench

pytestmark = [pytest.mark.lab, pytest.mark.root]


def test_the_inventory_has_what_was_built(loop: Bench) -> None:
    server, machine = loop.vm.server, loop.vm.server.machine
    host = loop.lab.ask("host", server.name)
    print(host)
    assert (host["product"], host["serial"]) == (machine.board.product, server.serial)
