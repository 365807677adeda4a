"""Real brokers on loopback, and an inventory's end of the line to talk to an agent with."""

import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from wire import codec, policy, report
from wire.report import Ack, Report
from wire.topics import Channel, parse_topic, topic

AMQTT = """
import asyncio, sys
from amqtt.broker import Broker
config = {"listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{sys.argv[1]}"}},
          "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}}
async def main():
    broker = Broker(config)
    await broker.start()
    await asyncio.Event().wait()
asyncio.run(main())
"""


CONFIG = """
[intervals]
nicstats = 1
nic = 2
ethtool = 2
irq = 2
queues = 2
cpu = 2
numa = 2
softnet = 2

[replay]
jitter_s = 0.5
resend_s = 3
"""

DECODERS: dict[Channel, Any] = {
    Channel.BIRTH: report.BIRTH,
    Channel.STATE: report.STATE,
    Channel.REPORT: report.REPORT,
    Channel.EVENT: report.REPORT,
    Channel.REPORTED: policy.REPORTED,
    Channel.RESULT: report.RESULT,
    Channel.DESIRED: policy.DESIRED,
    Channel.ACK: report.ACK,
    Channel.CMD: report.COMMAND,
}


def wait_for(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """The first true value of `condition`; fails after a generous time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Inside(Protocol):
    """A network namespace."""

    def inside(self, *command: str) -> list[str]: ...

    def run(self, function: Callable[[Any], Any]) -> Any: ...


class AgentProcess:
    """`rackhand-agent run` as a child."""

    def __init__(self, state: Path, port: int, *arguments: str, inside: Inside | None = None) -> None:
        self.state = state
        state.mkdir(exist_ok=True)
        config = state / "agent.toml"
        config.write_text(CONFIG)
        argv = [sys.executable, "-m", "agent.cli", "run", "--config", str(config), "--broker", f"127.0.0.1:{port}"]
        self.log = (state / "agent.log").open("ab")
        self.process = subprocess.Popen(
            [*(inside.inside() if inside else []), *argv, "--state", str(state), *arguments],
            stderr=self.log,
            cwd=Path(__file__).resolve().parents[2],
        )
        identity = state / "identity.json"
        wait_for(lambda: identity.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, (state / "agent.log").read_text()
        self.host_id: str = msgspec.json.decode(identity.read_bytes())["host_id"]

    def stop(self) -> int:
        self.process.terminate()
        code = self.process.wait(60)
        self.log.close()
        return code

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(60)
        self.log.close()


class BrokerProcess:
    """A broker as a child, that can be killed, frozen and started again on its port."""

    def __init__(self, kind: str, folder: Path, inside: "Inside | None" = None) -> None:
        self.kind = kind
        self.folder = folder
        self._inside = inside
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        log = (self.folder / "broker.log").open("ab")
        prefix = self._inside.inside() if self._inside else []
        self.process = subprocess.Popen([*prefix, *self._argv()], stdout=log, stderr=log, cwd=self.folder)
        log.close()
        wait_for(self._accepts)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def _argv(self) -> list[str]:
        if self.kind == "amqtt":
            return [sys.executable, "-W", "ignore", "-c", AMQTT, str(self.port)]
        config = self.folder / "mosquitto.conf"
        config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser root\nmax_queued_messages 20000\n"
        )
        return [str(mosquitto()), "-c", str(config)]

    def _accepts(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "broker.log").read_text()
        return bool(self._inside.run(lambda _: self._reached()) if self._inside else self._reached())

    def _reached(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def mosquitto() -> str | None:
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class Inventory:
    """The other end: keeps what a host publishes, and answers when told to."""

    def __init__(self, port: int, host_id: str, site: str = "default") -> None:
        self.host_id = host_id
        self.site = site
        self.acking = False
        self.seen: dict[Channel, list[Any]] = {channel: [] for channel in Channel}
        self.names: list[str] = []
        self._rows: dict[str, set[int]] = {}
        self._acked: dict[str, int] = {}
        self._subscribed: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"inventory-{port}")
        self.client.on_message = self._message
        self.client.on_connect = lambda client, *_: client.subscribe(f"rackhand/v1/{site}/{host_id}/#", 1)
        self.client.on_subscribe = lambda *_: self._subscribed.put(1)
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self._subscribed.get(timeout=30)

    def say(self, channel: Channel, payload: bytes, name: str = "", retain: bool = False) -> None:
        self.client.publish(topic(self.site, self.host_id, channel, name), payload, qos=1, retain=retain)

    def ack(self, epoch: str, seq: int) -> None:
        self.say(Channel.ACK, codec.encode(Ack(host_id=self.host_id, epoch=epoch, seq=seq)))

    def rows(self) -> list[Report]:
        return [*self.seen[Channel.REPORT], *self.seen[Channel.EVENT]]

    def events(self, kind: str) -> list[dict[str, Any]]:
        found = [msgspec.json.decode(bytes(item)) for row in self.rows() for item in row.events]
        return [event for event in found if event["kind"] == kind]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _message(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        parsed = parse_topic(message.topic)
        item = DECODERS[parsed.channel].decode(message.payload)
        self.seen[parsed.channel].append(item)
        if parsed.channel == Channel.RESULT:
            self.names.append(parsed.name)
        if isinstance(item, Report) and self.acking:
            self._cumulate(item)

    def _cumulate(self, row: Report) -> None:
        """Acknowledge as the inventory does: everything below the floor will never come, then as far as it is whole."""
        have = self._rows.setdefault(row.epoch, set())
        have.add(row.seq)
        upto = max(self._acked.get(row.epoch, 0), row.floor - 1)
        while upto + 1 in have:
            upto += 1
        if upto > self._acked.get(row.epoch, 0):
            self._acked[row.epoch] = upto
            self.ack(row.epoch, upto)
