"""`rackhand-poller` against real SNMP devices, a real broker and the inventory in SQL."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hardware_lab import bmc
from hardware_lab import snmp as lab
from hardware_lab.machine import Machine, Server
from tests.agent.brokers import Inventory, free_port, wait_for
from tests.pollers.walks import free_port as free_udp_port
from wire.codec import encode
from wire.report import Command
from wire.topics import Channel

pytestmark = pytest.mark.broker
ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
V3 = """username = "lab"
auth = "sha"
auth_password = "lab-auth-key"
privacy = "aes128"
privacy_password = "lab-priv-key"
"""


class Rack:
    """The lab's PDU and switch, an inventory with its broker, and the poller between them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker = free_port()
        self.traps = free_udp_port()
        self.pdu = lab.pdu(folder / "pdu")
        plugged = {2: ("52:54:00:1a:01:01", "srv1")}
        self.switch = lab.Device(folder / "switch", lab.switch(plugged))
        self.db = f"sqlite:///{folder / 'up' / 'rackhand.db'}"
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self.pdu.start()
        self.switch.start()
        state = self.folder / "up"
        self._run("up", str(BIN / "rackhand"), "up", "--no-agent", "--port", str(self.broker), "--state", str(state))
        wait_for(lambda: self.ask("hosts") is not None, 120)

    def poll(self, *options: str) -> "subprocess.Popen[bytes]":
        path = self.folder / "poller.toml"
        if not path.exists():
            self.config()
        return self._run("poller", sys.executable, "-m", "agent.poller", "--config", str(path), *options)

    def config(self, every_s: float = 1, more: str = "", secrets: str = "") -> None:
        file = self.folder / "secrets.toml"
        file.touch(mode=0o600)
        file.write_text(f'[public]\ncommunity = "public"\n[v3]\n{V3}\n{secrets}')
        path = self.folder / "poller.toml"
        path.write_text(f"""
            state_dir = "{self.folder / "poller"}"
            secrets_file = "secrets.toml"
            labels = {{rack = "r1"}}
            broker = {{port = {self.broker}}}
            replay = {{jitter_s = 0.1}}
            traps = {{listen = "127.0.0.1:{self.traps}"}}
            [[device]]
            name = "pdu-a"
            protocol = "snmp"
            address = "127.0.0.1"
            port = {self.pdu.port}
            secret = "v3"
            every_s = {every_s}
            deadline_s = 20
            labels = {{side = "a"}}
            [[device]]
            name = "sw-1"
            protocol = "snmp"
            address = "127.0.0.1"
            port = {self.switch.port}
            secret = "public"
            every_s = {every_s}
            deadline_s = 20
            {more}
        """)

    def ask(self, *verb: str) -> Any:
        """What a verb of the inventory's command line says, as JSON; None while there is no answer."""
        argv = [str(BIN / "rackhand"), *verb, "--db", self.db, "-o", "json"]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, cwd=ROOT)
        return json.loads(done.stdout) if done.returncode == 0 and done.stdout.strip() else None

    def hosts(self) -> dict[str, dict[str, Any]]:
        return {host["hostname"]: host for host in self.ask("hosts") or []}

    def until(self, condition: Callable[[], Any]) -> Any:
        return wait_for(condition, 120)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def close(self) -> None:
        for child in self._children:
            if child.poll() is None:
                child.terminate()
        for child in self._children:
            child.wait(60)
        self.pdu.stop()
        self.switch.stop()

    def _run(self, name: str, *argv: str) -> "subprocess.Popen[bytes]":
        with (self.folder / f"{name}.log").open("ab") as log:
            env = {**os.environ, "PYTHONPATH": str(ROOT)}
            child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, env=env)
        self._children.append(child)
        return child


@pytest.fixture
def rack(tmp_path: Path) -> Iterator[Rack]:
    made = Rack(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.close()


def test_devices_are_hosts_with_facts_samples_states_and_traps(rack: Rack) -> None:
    poller = rack.poll()
    rack.until(lambda: set(rack.hosts()) == {"pdu-a", "sw-1"} and all(host["online"] for host in rack.hosts().values()))
    hosts = rack.hosts()
    assert hosts["pdu-a"]["labels"] == {"device": "pdu", "rack": "r1", "side": "a"}
    assert hosts["sw-1"]["labels"] == {"device": "switch", "rack": "r1"}
    pdu = rack.ask("host", "pdu-a")
    facts = {(fact["kind"], fact.get("key", "")): fact for fact in _facts(pdu)}
    assert facts["device", ""]["serial"] == "LWP0000001"
    assert facts["device", ""]["engine_id"]
    assert facts["outlet", "outlet:3"]["state"] == "on"

    rack.pdu.switch_outlet(3, on=False)
    rack.until(lambda: _state(rack, "outlet:3") == "off")

    rack.switch.stop()
    rack.until(lambda: not rack.hosts()["sw-1"]["online"])
    rack.until(lambda: any(event["kind"] == "device.sick" for event in rack.ask("events", "-n", "100") or []))
    assert rack.hosts()["pdu-a"]["online"]
    rack.switch.start()  # on its port again, but for a port that another took meanwhile
    _trap(rack, facts["device", ""]["engine_id"])
    rack.until(lambda: any(event["kind"] == "snmp.trap" for event in rack.ask("events", "-n", "100") or []))

    ids = {name: host["host_id"] for name, host in rack.hosts().items()}
    poller.send_signal(signal.SIGTERM)
    assert poller.wait(60) == 0, rack.log("poller")
    rack.until(lambda: not any(host["online"] for host in rack.hosts().values()))
    assert "Traceback" not in rack.log("poller")

    rack.poll()
    rack.until(lambda: rack.hosts()["pdu-a"]["online"])
    assert {name: host["host_id"] for name, host in rack.hosts().items()} == ids


def test_a_bmc_that_hangs_and_a_device_that_never_was_there_are_offline_hosts(rack: Rack) -> None:
    made = bmc.prepare(Server("srv1", 7, Machine()), rack.folder)
    made.start()
    try:
        more = f"""
            [[device]]
            name = "srv1-bmc"
            protocol = "ipmi"
            address = "127.0.0.1"
            port = {made.ports.lan}
            secret = "bmc"
            every_s = 1
            deadline_s = 20
            [[device]]
            name = "ghost"
            protocol = "snmp"
            address = "127.0.0.1"
            port = {free_udp_port()}
            every_s = 1
            deadline_s = 2
        """
        rack.config(more=more, secrets=f'[bmc]\nusername = "admin"\npassword = "{made.password}"\n')
        rack.poll()
        rack.until(lambda: set(rack.hosts()) == {"pdu-a", "sw-1", "srv1-bmc", "ghost"})
        rack.until(lambda: rack.hosts()["srv1-bmc"]["online"])
        hosts = rack.hosts()
        assert hosts["srv1-bmc"]["labels"]["device"] == "bmc"
        assert not hosts["ghost"]["online"]
        assert any(fact["kind"] == "bmc_sensor" for fact in _facts(rack.ask("host", "srv1-bmc")))
        made.hang()
        rack.until(lambda: not rack.hosts()["srv1-bmc"]["online"])
        assert rack.hosts()["pdu-a"]["online"]
        made.revive()
        rack.until(lambda: rack.hosts()["srv1-bmc"]["online"])
        assert made.password not in rack.log("poller")
    finally:
        made.stop()


def test_a_device_is_asked_on_command(rack: Rack) -> None:
    rack.config(every_s=3600)
    rack.poll()
    rack.until(lambda: rack.hosts().get("pdu-a", {}).get("online"))
    inventory = Inventory(rack.broker, rack.hosts()["pdu-a"]["host_id"])
    try:
        rack.pdu.switch_outlet(5, on=False)
        for number, verb in enumerate(("collect", "collect", "rollback")):
            inventory.say(Channel.CMD, encode(Command(verb=verb)), name=f"ask-{max(number, 1)}")
        results = inventory.seen[Channel.RESULT]
        rack.until(lambda: len(results) == 2)
        assert [result.ok for result in results] == [True, False]
        assert "a polled device knows: collect, rebirth" in results[1].text
        rack.until(lambda: _state(rack, "outlet:5") == "off")
    finally:
        inventory.close()


def _facts(page: dict[str, Any]) -> list[dict[str, Any]]:
    """A key that is the kind's only one is left out."""
    found: list[dict[str, Any]] = page["host"]["facts"]
    return found


def _state(rack: Rack, key: str) -> str:
    host = rack.ask("host", "pdu-a")
    return next((fact.get("state", "") for fact in _facts(host) if fact.get("key") == key), "") if host else ""


def _trap(rack: Rack, engine_id: str) -> None:
    keys = ["-l", "authPriv", "-u", "lab", "-a", "SHA", "-A", "lab-auth-key", "-x", "AES", "-X", "lab-priv-key"]
    where = [f"127.0.0.1:{rack.traps}", "", "1.3.6.1.4.1.318.0.269"]
    argv = ["snmptrap", "-v3", *keys, "-e", f"0x{engine_id}", *where]
    subprocess.run(argv, check=True, capture_output=True, env={**os.environ, "MIBS": ""})
