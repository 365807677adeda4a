"""The link against real brokers: versions, outages, bad messages, clones."""

import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import link as link_module
from agent.config import Broker
from agent.link import Down, Link, Received, Up
from tests.agent.brokers import BrokerProcess, Inventory, free_port, mosquitto, wait_for
from wire import codec
from wire.policy import Desired, content_hash
from wire.report import Ack, Command, State
from wire.topics import Channel

pytestmark = pytest.mark.broker

Make = Callable[..., "Runner"]


class Runner:
    """A link that is stepped by the test's thread, and what it handed over."""

    def __init__(self, port: int, host_id: str, start: str) -> None:
        broker = Broker(port=port, keepalive_s=2)
        self.link = Link(broker, site="default", host_id=host_id, start=start, backoff_s=(0.05, 0.2))
        self.found: list[Up | Down | Received] = []
        self._unread: list[Up | Down | Received] = []

    def after_up(self) -> list[Up | Down | Received]:
        kinds = [type(outcome) for outcome in self.found]
        return self.found[kinds.index(Up) :]

    def until(self, kind: type) -> Any:
        """The next outcome of that kind; those before it are read over."""

        def found() -> Any:
            new = self.link.step()
            self.found += new
            self._unread += new
            while self._unread:
                outcome = self._unread.pop(0)
                if isinstance(outcome, kind):
                    return outcome
            return None

        return wait_for(found)


@pytest.fixture
def make(broker: BrokerProcess) -> Iterator[Make]:
    runners: list[Runner] = []

    def start(host_id: str = "", process: str = "a1b2c3d4") -> Runner:
        runners.append(Runner(broker.port, host_id or str(uuid.uuid4()), process))
        return runners[-1]

    yield start
    for runner in runners:
        runner.link.close()


def test_falls_back_to_the_version_the_broker_speaks(broker: BrokerProcess, make: Make) -> None:
    runner = make()
    up = runner.until(Up)
    assert up.protocol == {"mosquitto": 5, "amqtt": 4}[broker.kind]


def test_messages_arrive_decoded(broker: BrokerProcess, make: Make) -> None:
    runner = make()
    runner.until(Up)
    host_id = runner.link.host_id
    inventory = Inventory(broker.port, host_id)
    inventory.say(Channel.CMD, codec.encode(Command(verb="rebirth")), name="c-1")
    assert runner.until(Received) == Received("c-1", Command(verb="rebirth"))
    inventory.ack("e", 7)
    assert runner.until(Received).message == Ack(host_id=host_id, epoch="e", seq=7)
    desired = Desired(host_id=host_id, generation=3, hash=content_hash([]))
    inventory.say(Channel.DESIRED, codec.encode(desired), retain=True)
    assert runner.until(Received).message == desired
    inventory.close()


def test_retained_desired_comes_with_the_connection(broker: BrokerProcess, make: Make) -> None:
    host_id = str(uuid.uuid4())
    inventory = Inventory(broker.port, host_id)
    desired = Desired(host_id=host_id, generation=3, hash=content_hash([]))
    inventory.say(Channel.DESIRED, codec.encode(desired), retain=True)
    wait_for(lambda: inventory.seen[Channel.DESIRED])
    assert make(host_id).until(Received).message == desired
    inventory.close()


BAD: dict[str, tuple[Channel, bytes]] = {
    "truncated": (Channel.DESIRED, b'{"host_id": "x", "gener'),
    "not utf-8": (Channel.DESIRED, b'{"host_id": "\xff\xfe", "generation": 1, "hash": ""}'),
    "deep": (Channel.ACK, b"[" * 100_000 + b"]" * 100_000),
    "empty": (Channel.CMD, b""),
    "wrong types": (Channel.ACK, b'{"host_id": 5, "epoch": [], "seq": "x"}'),
    "another host": (Channel.ACK, codec.encode(Ack(host_id="someone-else", epoch="e", seq=9))),
    "oversized": (Channel.DESIRED, b'{"x": "' + b"a" * (codec.MAX_BYTES + 10) + b'"}'),
}


def test_bad_messages_are_counted_and_the_next_good_one_arrives(broker: BrokerProcess, make: Make) -> None:
    runner = make()
    runner.until(Up)
    inventory = Inventory(broker.port, runner.link.host_id)
    inventory.client.on_message = None
    for channel, payload in BAD.values():
        inventory.say(channel, payload, name="c-1" if channel == Channel.CMD else "")
    inventory.say(Channel.CMD, codec.encode(Command(verb="collect")), name="c-2")
    assert runner.until(Received) == Received("c-2", Command(verb="collect"))
    assert sum(runner.link.bad.values()) == len(BAD)
    inventory.close()


def test_broker_killed_and_restarted(broker: BrokerProcess, make: Make) -> None:
    runner = make()
    runner.until(Up)
    broker.kill()
    runner.until(Down)
    assert not runner.link.publish(Channel.EVENT, b"{}")
    broker.start()
    up = runner.until(Up)
    assert up.protocol == {"mosquitto": 5, "amqtt": 4}[broker.kind]


def test_broker_that_is_not_there_is_tried_again(broker: BrokerProcess, make: Make) -> None:
    broker.kill()
    runner = make()
    for _ in range(4):
        runner.until(Down)
    broker.start()
    runner.until(Up)


def test_frozen_broker_is_noticed(broker: BrokerProcess, make: Make) -> None:
    runner = make()
    runner.until(Up)
    broker.freeze()
    runner.until(Down)
    broker.thaw()
    runner.until(Up)


def test_peer_that_accepts_and_says_nothing(make: Make, broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "CONNACK_WITHIN_S", {5: 0.2, 4: 0.2})
    broker.freeze()
    runner = make()
    down = runner.until(Down)
    assert "CONNACK" in down.reason
    broker.thaw()
    monkeypatch.undo()
    runner.until(Up)


def test_dead_network_thread_is_noticed(make: Make, broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = make()
    runner.until(Up)
    others = [thread for thread in threading.enumerate() if "paho" not in thread.name]
    monkeypatch.setattr(threading, "enumerate", lambda: others)
    assert runner.until(Down).reason == "the network thread died"
    monkeypatch.undo()
    runner.until(Up)


def test_exception_in_a_callback_ends_nothing(make: Make, broker: BrokerProcess) -> None:
    runner = make()
    runner.until(Up)
    inventory = Inventory(broker.port, runner.link.host_id)
    calls: list[int] = []

    def wake() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("out of order")

    runner.link._wake = wake
    for number in range(3):
        inventory.say(Channel.CMD, codec.encode(Command(verb="collect")), name=f"c-{number}")
    for number in range(3):
        assert runner.until(Received).name == f"c-{number}"
    assert runner.link.connected
    inventory.close()


def test_clean_end_says_offline_and_a_killed_one_leaves_its_will(broker: BrokerProcess, make: Make) -> None:
    runner = make()
    runner.until(Up)
    host_id = runner.link.host_id
    inventory = Inventory(broker.port, host_id)
    online = codec.encode(State(host_id=host_id, start="a1b2c3d4", online=True))
    offline = State(host_id=host_id, start="a1b2c3d4", online=False)
    assert runner.link.publish(Channel.STATE, online, retain=True)
    wait_for(lambda: inventory.seen[Channel.STATE])
    runner.link.close()
    wait_for(lambda: inventory.seen[Channel.STATE][-1] == offline)
    inventory.close()


def test_clones_do_not_throw_each_other_out(broker: BrokerProcess, make: Make) -> None:
    """Same host id, other process: both stay connected."""
    one = make("same-host", "11111111aaaa")
    two = make("same-host", "22222222bbbb")
    one.until(Up)
    two.until(Up)
    assert one.link.client_id != two.link.client_id
    inventory = Inventory(broker.port, "same-host")
    for number in range(3):
        inventory.say(Channel.CMD, codec.encode(Command(verb="collect")), name=f"c-{number}")
        assert one.until(Received).name == two.until(Received).name == f"c-{number}"
    assert not [outcome for runner in (one, two) for outcome in runner.after_up() if isinstance(outcome, Down)]
    inventory.close()


def test_unusable_settings_are_one_reason_and_no_crash() -> None:
    broker = Broker(port=1, username="u", password_file="/nonexistent/password")
    runner = Runner(1, "a-host", "s")
    runner.link = Link(broker, site="default", host_id="a-host", start="s", backoff_s=(0.05, 0.2))
    assert "/nonexistent/password" in runner.until(Down).reason


def test_tls_with_a_ca_and_a_password(tmp_path: Path) -> None:
    port = free_port()
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            "key.pem",
            "-out",
            "ca.pem",
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    (tmp_path / "passwords").write_text("agent:hunter2\n")
    subprocess.run(["mosquitto_passwd", "-U", "passwords"], cwd=tmp_path, check=True)
    lines = [f"listener {port} 127.0.0.1", "user root", "certfile ca.pem", "keyfile key.pem", "password_file passwords"]
    (tmp_path / "mosquitto.conf").write_text("\n".join(lines))
    (tmp_path / "secret").write_text("hunter2\n")
    (tmp_path / "wrong").write_text("hunter3\n")
    with subprocess.Popen([str(mosquitto()), "-c", "mosquitto.conf"], cwd=tmp_path, stderr=subprocess.DEVNULL) as child:
        try:
            ca = str(tmp_path / "ca.pem")
            good = Broker(port=port, username="agent", password_file=str(tmp_path / "secret"), tls_ca=ca)
            runner = Runner(port, "a-host", "s")
            runner.link = Link(good, site="default", host_id="a-host", start="s", backoff_s=(0.05, 0.2))
            assert runner.until(Up).protocol == 5
            runner.link.close()
            bad = Broker(port=port, username="agent", password_file=str(tmp_path / "wrong"), tls_ca=ca)
            runner.link = Link(bad, site="default", host_id="a-host", start="s", backoff_s=(0.05, 0.2))
            assert "authorized" in runner.until(Down).reason.lower()
            assert runner.link.protocol == 5
            runner.link.close()
        finally:
            child.terminate()
