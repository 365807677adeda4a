"""Real brokers on loopback ports, each with a life of one test."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hwdb import broker, child

DEADLINE_S = 60.0
NATS = """\
listen: "127.0.0.1:{client}"
server_name: "test"
jetstream {{ store_dir: "{folder}/jetstream" }}
mqtt {{ listen: "127.0.0.1:{mqtt}" }}
"""


@pytest.fixture
def until() -> Callable[[Callable[[], object], str], None]:
    """Wait for a condition, and fail with `what` when it never holds."""

    def wait(true: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not true():
            assert time.monotonic() < deadline, what
            time.sleep(0.01)

    return wait


def start_nats(folder: Path) -> tuple[broker.Address, Callable[[], None]]:
    binary = shutil.which("nats-server", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if binary is None:
        pytest.skip("nats-server is not installed")
    folder.mkdir()
    address = broker.Address(broker.LOOPBACK, broker.claim_port(0))
    config = folder / "nats.conf"
    config.write_text(NATS.format(client=broker.claim_port(0), folder=folder, mqtt=address.port))
    process = child.spawn([binary, "-c", str(config)], folder / "nats.log")
    assert broker._accepts(address, lambda: process.poll() is None), (folder / "nats.log").read_text()
    return address, lambda: child.stop(process)


def start_own(kind: str, folder: Path) -> broker.Broker:
    address = broker.Address(broker.LOOPBACK, broker.claim_port(0))
    if kind == "amqtt":
        return broker.Amqtt(address)
    binary = broker.mosquitto_path()
    if binary is None:
        pytest.skip("mosquitto is not installed")
    return broker.Mosquitto(binary, folder, address)


@pytest.fixture(params=["mosquitto", "amqtt", "nats"])
def any_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[broker.Address]:
    """The address of a running broker, of each kind in turn."""
    if request.param == "nats":
        address, stop = start_nats(tmp_path / "nats")
        yield address
        stop()
        return
    own = start_own(request.param, tmp_path / "broker")
    own.start()
    yield own.address
    own.stop()


@pytest.fixture
def make_broker() -> Callable[[str, Path], broker.Broker]:
    """A broker of `rackhand up` of the given kind, not yet started."""
    return start_own


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[broker.Broker]:
    """A running Mosquitto."""
    own = start_own("mosquitto", tmp_path / "mosquitto")
    own.start()
    yield own
    own.stop()
