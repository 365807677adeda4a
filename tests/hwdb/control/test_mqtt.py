"""The connection to a broker: whichever version it speaks, through restarts, and in no more memory than asked for."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from hwdb import broker
from hwdb.ingest import Incoming
from hwdb.mqtt import Connection

pytestmark = pytest.mark.broker
Until = Callable[[Callable[[], object], str], None]
Make = Callable[[str, Path], broker.Broker]


def pump(until: Until, connection: Connection, count: int) -> list[Incoming]:
    got: list[Incoming] = []

    def enough() -> bool:
        got.extend(connection.receive(100, 0.05, 0.01))
        return len(got) >= count

    until(enough, f"{count} messages never came")
    return got


def join(until: Until, connection: Connection) -> None:
    def subscribed() -> bool:
        connection.publish("h7/probe", b"", qos=1)
        return bool(connection.receive(100, 0.05, 0))

    until(subscribed, f"never subscribed: {connection.error}")


def test_every_broker_takes_and_gives_at_qos_1(any_broker: broker.Address, until: Until) -> None:
    listener, speaker = (Connection(any_broker, ["h7/+"], name) for name in ("listener", "speaker"))
    join(until, listener)
    join(until, speaker)
    wanted = [b"%d" % number for number in range(300)]
    for payload in wanted:
        assert speaker.publish("h7/flood", payload)
    got: list[bytes] = []

    def all_came() -> bool:
        speaker.receive(1000, 0.01, 0)
        got.extend(item.payload for item in listener.receive(1000, 0.01, 0) if item.topic == "h7/flood")
        return len(set(got)) >= len(wanted)

    until(all_came, "some never came")
    assert sorted(set(got)) == sorted(wanted)
    listener.close()
    speaker.close()


@pytest.mark.parametrize("kind", ["mosquitto", "amqtt"])
def test_it_subscribes_again_after_the_broker_was_away(
    kind: str, tmp_path: Path, make_broker: Make, until: Until
) -> None:
    own = make_broker(kind, tmp_path / "broker")
    connection = Connection(own.address, ["h7/+"], "one")
    assert connection.receive(1, 0.05, 0) == []
    assert "cannot reach the broker" in connection.error
    for _ in range(2):
        own.start()
        join(until, connection)
        own.stop()
        until(lambda: connection.receive(1, 0.05, 0) == [] and not connection.connected, "the loss went unseen")
        assert not connection.publish("h7/x", b"")
    assert connection.connects == 2
    connection.close()


def test_a_batch_ends_by_count_by_size_and_by_time(mosquitto: broker.Broker, until: Until) -> None:
    connection = Connection(mosquitto.address, ["h7/+"], "one")
    join(until, connection)
    for _ in range(30):
        connection.publish("h7/small", b"x")
    counts: list[int] = []

    def received() -> bool:
        counts.append(len(connection.receive(7, 1, 1)))
        return sum(counts) >= 28

    until(received, "never received")
    assert max(counts) == 7
    pump(until, connection, 1)
    for _ in range(12):
        connection.publish("h7/large", b"x" * 3_000_000)
    sizes: list[int] = []

    def drained() -> bool:
        batch = connection.receive(100, 1, 1)
        sizes.append(sum(len(item.payload) for item in batch))
        return sum(sizes) >= 12 * 3_000_000

    until(drained, "never drained")
    assert max(sizes) <= 16_000_000 + 3_000_000
    connection.close()


def test_a_broker_that_hangs_up_or_talks_nonsense_is_survived(until: Until) -> None:
    with socket.socket() as server:
        server.bind((broker.LOOPBACK, 0))
        server.listen()
        server.settimeout(30)
        connection = Connection(broker.Address(*server.getsockname()), ["h7/+"], "one")
        for answer in (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20\x7f\xff\xff\xff\xff\xff", b"\x00" * 64):
            until(lambda: connection.receive(1, 0.05, 0) == [] and connection.attempts, "no attempt")
            peer, _ = server.accept()
            peer.sendall(answer)
            peer.close()
            connection.attempts = 0
        assert not connection.connected
        connection.close()
