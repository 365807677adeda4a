"""The switch's lldpd and the guest's, over the guest's emulated NICs."""

import json

import pytest

from hardware_lab import far_end, wires
from hardware_lab.far_end import FarEnd
from tests.lab.conftest import Bench, wait_for

pytestmark = pytest.mark.lab


def test_switch_and_server_name_each_other_on_every_cable(server: Bench) -> None:
    machine, number = server.vm.server, server.vm.server.number
    nics = [at for at, nic in enumerate(machine.machine.nics) if nic.wire]
    ports = {wires.tap(number, at): f"port{at + 1}" for at in nics}
    for at in nics:
        server.guest.run(f"ip link set {server.nic(at)} up")
    server.guest.run("lldpd </dev/null >/dev/null 2>&1")
    switch = FarEnd(server.lab.wires, server.lab.folder / "switch")
    switch.start(ports)
    try:
        wanted = {server.nic(at): f"port{at + 1}" for at in nics}
        wait_for(lambda: neighbours(server) == wanted, f"the server sees {wanted}")
        heard = {tap: machine.mac(at) for tap, at in zip(ports, nics, strict=True)}

        def hears() -> bool:
            server.guest.run("lldpcli update")
            return {one.tap: one.port for one in switch.neighbours()} == heard

        wait_for(hears, f"the switch hears {heard}")
        assert {one.system for one in switch.neighbours()} == {machine.name}
    finally:
        switch.stop()


def neighbours(server: Bench) -> dict[str, str]:
    """NIC -> port of the switch, as the guest's lldpd says."""
    said = json.loads(server.guest.run("lldpcli -f json0 show neighbors"))
    heard = [one for part in said["lldp"] for one in part.get("interface", [])]
    of_switch = [one for one in heard if one["chassis"][0]["name"][0]["value"] == far_end.SYSTEM]
    return {one["name"]: one["port"][0]["id"][0]["value"] for one in of_switch}
