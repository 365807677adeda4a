"""Fixtures of the agent's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.brokers import BrokerProcess, mosquitto
from tests.agent.space import Space


@pytest.fixture(params=["mosquitto", "amqtt"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BrokerProcess]:
    if request.param == "mosquitto" and not mosquitto():
        pytest.skip("mosquitto is not installed")
    process = BrokerProcess(request.param, tmp_path)
    yield process
    process.kill()


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Space]:
    """A network namespace with a veth pair of four queues, removed afterwards."""
    made = Space(tmp_path / "state")
    yield made
    made.close()
