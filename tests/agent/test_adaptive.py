"""`auto` in a running agent, on real queues under real traffic: one step, measured, told, and placed again."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent.brokers import AgentProcess, BrokerProcess, Inventory, mosquitto
from tests.agent.space import NIC, Space, desired, wait_for
from wire import codec
from wire.measure import Keep, Measure
from wire.policy import Setting
from wire.topics import Channel

pytestmark = [pytest.mark.root, pytest.mark.broker]

# A thousand broadcasts a second that nobody wants
_TRAFFIC = """
import socket, time
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("vb", 0))
while True:
    for _ in range(10):
        raw.send(bytes.fromhex("ffffffffffff02000000000188b5") + bytes(50))
    time.sleep(0.01)
"""


def test_queues_that_nobody_needs_are_halved_down_to_the_bound(tmp_path: Path) -> None:
    space = Space(tmp_path / "state")
    space.ip("link set lo up")
    broker = BrokerProcess("mosquitto" if mosquitto() else "amqtt", tmp_path, inside=space)
    agent = AgentProcess(space.state, broker.port, "--no-observe", inside=space)
    inventory: Inventory = space.run(lambda _: Inventory(broker.port, agent.host_id))
    traffic = subprocess.Popen(space.inside(sys.executable, "-c", _TRAFFIC))
    try:
        inventory.acking = True
        rule = Measure(window_s=1, keep=Keep.ALWAYS)
        wanted = [
            Setting(knob="auto", nic=NIC, values={"queues_max": 2}, measure=rule),
            Setting(knob="channels", nic=NIC, values={"rx": 1}),
            Setting(knob="rps", nic=NIC, values={"mode": "all"}),
        ]
        document = desired(wanted)
        document.host_id = agent.host_id
        inventory.say(Channel.DESIRED, codec.encode(document), retain=True)
        wait_for(lambda: inventory.events("policy.applied"), "the bounds and the rest are applied")
        assert queues(space) == 2, "the knob of that name has no say, the bound has"
        wait_for(lambda: inventory.events("auto.step"), "a step was tried", 120)
        (step,) = inventory.events("auto.step")
        assert step["key"] == NIC
        assert step["text"].startswith("channels rx=1 tx=1, as the busiest CPU is only "), step["text"]
        assert "kept: channels rx=1 tx=1: " in step["text"], step["text"]
        assert queues(space) == 1
        masks = space.shell(f"cat /sys/class/net/{NIC}/queues/rx-*/rps_cpus").split()
        assert len(masks) == 1
        assert "0" not in masks, "the queues that are left are steered as before"
        measured = inventory.events("policy.measured")[-1]["data"]
        assert measured["changed"] == "channels rx=1 tx=1"
        assert measured["windows"] == 3
        assert not inventory.events("policy.drifted"), "the step is nobody's drift"
    finally:
        traffic.kill()
        traffic.wait()
        inventory.close()
        agent.kill()
        broker.kill()
        space.close()


def queues(space: Space) -> int:
    return int(space.shell(f"ls -d /sys/class/net/{NIC}/queues/rx-* | wc -l"))
