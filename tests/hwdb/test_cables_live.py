"""A cable in the inventory from what its two ends really say: the agent's ears, and the switch's SNMP agent."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hardware_lab import snmp
from hardware_lab.far_end import MAC, SYSTEM
from hardware_lab.snmp import Device
from hwdb.db import reading
from hwdb.ingest import Ingest
from hwdb.store_cables import all_cables
from pollers.snmp import poll
from pollers.target import Secret, Target
from tests.collectors.lldp_space import ROOT, Collecting, end, ip, lldpd, mac
from wire.facts import Fact

pytestmark = pytest.mark.root
Speaker = Any
PORTS = {"ve0": "port1", "ve2": "port2"}  # NIC of the server -> port of the switch
NICS = """
import json
from collectors.run import collect_facts
from machine.live import Live
from wire.codec import encode
print(json.dumps([json.loads(encode(fact)) for fact in collect_facts(Live(), ["nic"])]))
"""


@pytest.fixture
def spaces() -> Iterator[tuple[str, str]]:
    """A server's and a switch's namespace with a cable for each of `PORTS`; the switch's ends are ve1 and ve3."""
    names = f"rhw-{os.getpid()}a", f"rhw-{os.getpid()}b"
    for name in names:
        subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        for near, far, address in (("ve0", "ve1", MAC), ("ve2", "ve3", f"{MAC[:-2]}99")):
            peer = ["peer", "name", far, "address", address, "netns", names[1]]
            ip(names[0], "link", "add", near, "type", "veth", *peer)
            ip(names[0], "link", "set", near, "up")
            ip(names[1], "link", "set", far, "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=True)


def polled(device: Device) -> list[Fact]:
    target = Target(name=SYSTEM, protocol="snmp", address=snmp.LOOPBACK, port=device.port)
    return asyncio.run(poll(target, Secret(community=device.user.community))).facts


def test_what_both_ends_say_is_one_cable(
    url: str, ingest: Ingest, speaker: type[Speaker], spaces: tuple[str, str], tmp_path: Path
) -> None:
    near, far = spaces
    inside = ["ip", "netns", "exec", near, sys.executable, "-c", NICS]
    nics = json.loads(subprocess.run(inside, check=True, capture_output=True, text=True, cwd=ROOT).stdout)
    names = [
        f"configure ports {port} lldp portidsubtype local {name}" for port, name in (("ve1", "port1"), ("ve3", "port2"))
    ]
    device = Device(tmp_path / "snmp", snmp.switch({at: (mac(near, nic), "srv1") for at, nic in enumerate(PORTS, 1)}))
    listening = Collecting("ip", "netns", "exec", near)
    host, switch = speaker("srv1"), speaker("sw1")
    ingest.batch([host.birth(), switch.birth(hostname=SYSTEM), host.facts("nic", *nics)])

    def verdicts() -> dict[tuple[str, str, str], str]:
        with reading(url) as conn:
            return {(one.port, one.peer, one.peer_port): one.verdict for one in all_cables(conn, host.now_ms)}

    cables = {(nic, SYSTEM, port) for nic, port in PORTS.items()}
    device.start()
    try:
        with lldpd(["ip", "netns", "exec", far], tmp_path, f"configure system hostname {SYSTEM}", *names):
            heard = listening.until(lambda facts: {one["port"]: one["port_id"] for one in facts} == PORTS)
        ingest.batch([host.facts("lldp", *heard)])
        assert verdicts() == dict.fromkeys(cables, "one-sided")
        ingest.batch([switch.facts("snmp", *polled(device))])
        assert verdicts() == dict.fromkeys(cables, "agree")
        for at, nic in ((1, "ve2"), (2, "ve0")):
            device.write(f"{snmp.LLDP_REMOTE}.7.0.{at}.1", mac(near, nic).replace(":", ""))
        ingest.batch([switch.facts("snmp", *polled(device))])
        assert set(verdicts().values()) == {"crossed"}
        assert cables <= set(verdicts())
    finally:
        end(listening.process)
        device.stop()
