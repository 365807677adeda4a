"""Cables of the lab from both ends: the agent listens on the guest's NICs, the poller asks the switch by SNMP."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hardware_lab import far_end, snmp, wires
from hardware_lab.far_end import FarEnd
from hardware_lab.snmp import Device
from tests.lab.conftest import Bench, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.soak]
REMOTE_PORT = f"{snmp.LLDP_REMOTE}.7.0"  # lldpRemPortId, then port and neighbour

# Collects until every NIC that is named has a neighbour.
BONDED = """
import json, time
from collectors import lldp
from collectors.run import run
from machine.live import Live
from wire.codec import encode
machine, found = Live(), []
ends = time.monotonic() + 120
while not {ports!r} <= {{fact.port for fact in found}} and time.monotonic() < ends:
    time.sleep(0.5)
    found = run(lldp, machine, 0).facts
print(json.dumps([json.loads(encode(fact)) for fact in found]))
"""
FLAGS = """
import json
from machine import ethtool, rtnl
from machine.live import Live
machine = Live()
names = {link.ifindex: link.ifname for link in rtnl.read_links(machine)}
print(json.dumps({names[index]: dict(flags) for index, flags in ethtool.read_all_privflags(machine).items()}))
"""


def cabled(server: Bench) -> list[int]:
    """The data NICs with a wire, set up."""
    nics = [at for at, nic in enumerate(server.vm.server.machine.nics) if nic.wire]
    for at in nics:
        server.guest.run(f"ip link set {server.nic(at)} up")
    return nics


@contextlib.contextmanager
def speaking(server: Bench, nics: list[int]) -> Iterator[FarEnd]:
    """The switch's lldpd on the cables of these NICs; it names the ports as its SNMP agent does."""
    switch = FarEnd(server.lab.wires, server.lab.folder / "switch")
    switch.start({wires.tap(server.vm.server.number, at): f"port{at + 1}" for at in nics})
    try:
        yield switch
    finally:
        switch.stop()


@contextlib.contextmanager
def polled(server: Bench, nics: list[int], folder: Path) -> Iterator[Device]:
    """The switch's SNMP agent, which saw the server on these ports, and a poller that asks it every five seconds."""
    machine = server.vm.server
    device = Device(folder / "snmp", snmp.switch({at + 1: (machine.mac(at), machine.name) for at in nics}))
    device.start()
    secrets, config = folder / "secrets.toml", folder / "poller.toml"
    secrets.write_text(f'[switch]\ncommunity = "{device.user.community}"\n')
    secrets.chmod(0o600)
    config.write_text(
        f'state_dir = "{folder}/poller"\nsecrets_file = "secrets.toml"\n'
        f'[broker]\nhost = "127.0.0.1"\nport = {server.lab.settings.broker}\n'
        f'[[device]]\nname = "{far_end.SYSTEM}"\nprotocol = "snmp"\naddress = "127.0.0.1"\nport = {device.port}\n'
        'secret = "switch"\nevery_s = 5.0\n'
    )
    with (folder / "poller.log").open("wb") as log:
        poller = subprocess.Popen([sys.executable, "-m", "agent.poller", "--config", str(config)], stderr=log)
    try:
        yield device
    finally:
        poller.terminate()
        poller.wait(timeout=30)
        device.stop()


def cables(server: Bench) -> dict[tuple[str, str], dict[str, Any]]:
    """(NIC, switch port) -> what the inventory says of their cable."""
    found = server.lab.ask("cables", "--host", server.vm.server.name) or []
    return {(one["port"], one["peer_port"]): one for one in found}


def test_the_inventory_knows_both_ends_of_every_cable(loop: Bench, tmp_path: Path) -> None:
    nics = cabled(loop)
    ends = {(loop.nic(at), f"port{at + 1}") for at in nics}

    def verdicts() -> dict[tuple[str, str], str]:
        return {end: one["verdict"] for end, one in cables(loop).items()}

    def crossed() -> int:
        return list(verdicts().values()).count("crossed")

    with speaking(loop, nics) as switch, polled(loop, nics, tmp_path) as device:
        wait_for(lambda: verdicts() == dict.fromkeys(ends, "agree"), f"{ends} agree: {verdicts()}")
        shown = {(one["hostname"], one["peer"], one["seen_by"]) for one in cables(loop).values()}
        assert shown == {(loop.vm.server.name, far_end.SYSTEM, "both")}
        first, second = (loop.vm.server.mac(at).replace(":", "") for at in nics[:2])
        device.write(f"{REMOTE_PORT}.{nics[0] + 1}.1", second)
        device.write(f"{REMOTE_PORT}.{nics[1] + 1}.1", first)
        wait_for(lambda: crossed() == 4, f"two cables crossed: {verdicts()}")
        device.write(f"{REMOTE_PORT}.{nics[0] + 1}.1", first)
        device.write(f"{REMOTE_PORT}.{nics[1] + 1}.1", second)
        wait_for(lambda: crossed() == 0, f"none crossed: {verdicts()}")
        switch.name_ports({wires.tap(loop.vm.server.number, nics[0]): "port7"})
        moved = (loop.nic(nics[0]), "port7")
        wait_for(lambda: verdicts().get(moved) == "changed", f"{moved} changed: {verdicts()}")
        assert cables(loop)[moved]["before"] == f"{far_end.SYSTEM} port{nics[0] + 1}"
        assert loop.lab.ask("cables", "--where", "verdict=changed", "--where", "peer_port=port7")


def test_the_ports_of_a_bond_hear_their_own_neighbours(server: Bench) -> None:
    nics = cabled(server)[:2]
    ports = {server.nic(at): f"port{at + 1}" for at in nics}  # a bond gives its ports one MAC, and they are found by it
    members = "".join(f"ip link set {port} down; ip link set {port} master bond9; " for port in ports)
    server.guest.run(f"ip link add bond9 type bond mode 802.3ad miimon 100; {members} ip link set bond9 up")
    with speaking(server, nics):
        heard = json.loads(server.python(BONDED.format(ports=set(ports)), timeout_s=300))
    facts = [fact for fact in heard if fact["port"] in ports]
    assert {fact["port"]: fact["port_id"] for fact in facts} == ports
    assert {fact["system_name"] for fact in facts} == {far_end.SYSTEM}
    assert {fact["local_perm_mac"] for fact in facts} == {server.vm.server.mac(at) for at in nics}
    assert len({fact["local_mac"] for fact in facts}) == 1


def test_a_drivers_own_switches_are_those_of_ethtool(server: Bench) -> None:
    found = json.loads(server.python(FLAGS))
    assert found
    for name, flags in found.items():
        shown = server.guest.run(f"ethtool --show-priv-flags {name}").splitlines()[1:]
        pairs = [line.partition(":") for line in shown]
        assert {flag.strip(): value.strip() == "on" for flag, _, value in pairs} == flags
