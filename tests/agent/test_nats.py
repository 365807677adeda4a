"""The agent over NATS with JetStream, an external broker that speaks MQTT 3.1.1 only."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import status
from agent.config import Config
from tests.agent.brokers import AgentProcess, BrokerProcess, Inventory, free_port, wait_for
from wire import codec
from wire.policy import Desired, content_hash
from wire.topics import Channel

CONFIG = """\
listen: "127.0.0.1:{client}"
server_name: "test"
jetstream {{ store_dir: "{folder}/jetstream" }}
mqtt {{ listen: "127.0.0.1:{mqtt}" }}
"""


class Nats(BrokerProcess):
    """A nats-server of its own on loopback."""

    def _argv(self) -> list[str]:
        binary = shutil.which("nats-server", path="/usr/sbin:/usr/bin:/usr/local/bin")
        assert binary is not None
        config = self.folder / "nats.conf"
        if not config.exists():
            config.write_text(CONFIG.format(client=free_port(), folder=self.folder, mqtt=self.port))
        return [binary, "-c", str(config)]


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[Nats]:
    if shutil.which("nats-server", path="/usr/sbin:/usr/bin:/usr/local/bin") is None:
        pytest.skip("nats-server is not installed")
    made = Nats("nats", tmp_path)
    yield made
    made.kill()


@pytest.mark.broker
def test_over_nats_it_reports_trims_on_ack_gets_its_document_and_comes_back(nats: Nats, tmp_path: Path) -> None:
    agent = AgentProcess(tmp_path / "state", nats.port)
    try:
        inventory = Inventory(nats.port, agent.host_id)
        wait_for(lambda: inventory.seen[Channel.BIRTH] and inventory.seen[Channel.STATE])
        inventory.acking = True
        wait_for(lambda: len(inventory.rows()) > 3 and status.read(Config(state_dir=str(agent.state))).rows == 0)
        desired = Desired(host_id=agent.host_id, generation=1, hash=content_hash([]))
        inventory.say(Channel.DESIRED, codec.encode(desired), retain=True)
        wait_for(lambda: inventory.events("policy.received"))
        before = len(inventory.rows())
        nats.kill()
        nats.start()
        wait_for(lambda: len(inventory.rows()) > before + 2, 60)
        assert agent.stop() == 0
        wait_for(lambda: not inventory.seen[Channel.STATE][-1].online)
        inventory.close()
    finally:
        agent.kill()
