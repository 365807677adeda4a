"""The loop against real brokers: births answered, rows acked, unknown starts asked, nothing lost while SQL is away."""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psycopg
import pytest
from sqlalchemy import Engine, make_url, text

from hwdb import broker
from hwdb.db import rows, writing
from hwdb.loop import Loop
from hwdb.mqtt import Connection
from hwdb.store_conflicts import accept
from hwdb.store_policy import PolicyEntry, put_policy
from wire.codec import encode, raw
from wire.facts import Ethtool, Fact, Nic
from wire.policy import DESIRED, Desired
from wire.report import ACK, COMMAND, Ack, Birth, Event, Fingerprint, Report, Run, Sample, State
from wire.topics import Channel, parse_topic, subscription, topic

pytestmark = pytest.mark.broker
Until = Callable[[Callable[[], object], str], None]
MAC = "02:00:00:00:00:01"
POLICY = """\
name: rings
match: [labels.role=edge]
knobs: {rings: {rx: max}}
"""


class FakeHost:
    """What an agent says and hears, over its own connection; it keeps rows until they are acked."""

    def __init__(self, address: broker.Address, host_id: str, start: str = "s1") -> None:
        self.host_id, self.start, self.epoch = host_id, start, f"epoch-{host_id}"
        self._numbers = itertools.count(1)
        self.unacked: dict[int, Report] = {}
        self.desired: list[Desired] = []
        self.commands: list[str] = []
        self.acks: list[Ack] = []
        channels = (Channel.ACK, Channel.CMD, Channel.DESIRED)
        self.serial = host_id
        self.link = Connection(address, [subscription(each, "lab", host_id) for each in channels], host_id)

    def say(self, channel: Channel, message: object, *, retain: bool = False) -> bool:
        return self.link.publish(topic("lab", self.host_id, channel), encode(message), retain=retain)

    def birth(self, role: str = "edge") -> None:
        born = Birth(
            host_id=self.host_id,
            start=self.start,
            epoch=self.epoch,
            hostname=f"host-{self.host_id}",
            at_ms=1_700_000_000_000,
            agent_version="0.1.0",
            fingerprint=Fingerprint(machine_id=self.host_id, product_serial=self.serial),
            labels={"role": role},
        )
        assert self.say(Channel.BIRTH, born, retain=True)
        assert self.say(Channel.STATE, State(host_id=self.host_id, start=self.start, online=True), retain=True)

    def report(self, *facts: Fact, events: int = 1) -> None:
        seq = next(self._numbers)
        at_ms = 1_700_000_000_000 + seq
        run = Run(collector="nic", at_ms=at_ms, digest=str(seq), samples=[raw(Sample("nic.rx_bytes", MAC, float(seq)))])
        run.facts = [raw(fact) for fact in facts] if facts else None
        happened = [raw(Event(at_ms=at_ms, kind="test.tick", text=f"tick {seq}")) for _ in range(events)]
        self.unacked[seq] = Report(
            host_id=self.host_id, epoch=self.epoch, seq=seq, floor=1, start=self.start, runs=[run], events=happened
        )

    def send(self) -> None:
        """Everything that is not acked, once more."""
        for row in self.unacked.values():
            self.say(Channel.REPORT, row)

    def exchange(self) -> bool:
        """Send what is not acked, and hear."""
        self.send()
        return self.hear()

    def greet(self) -> bool:
        """Send the birth, and hear."""
        self.birth()
        return self.hear()

    def hear(self) -> bool:
        """Take what came; True, so that it can stand in a condition."""
        for message in self.link.receive(1000, 0.01, 0):
            channel = parse_topic(message.topic).channel
            if channel is Channel.ACK:
                self.acks.append(ACK.decode(message.payload))
                self.unacked = {seq: row for seq, row in self.unacked.items() if seq > self.acks[-1].seq}
            elif channel is Channel.CMD:
                self.commands.append(COMMAND.decode(message.payload).verb)
            elif message.payload:
                self.desired.append(DESIRED.decode(message.payload))
        return True


NIC = Nic(key=MAC, ifname="eth0", ifindex=2, type="physical", mac=MAC)
ETHTOOL = Ethtool(key=MAC, ifname="eth0", ifindex=2, rings={"rx": 256, "rx_max": 4096})


@contextmanager
def looping(engine: Engine, address: broker.Address) -> Iterator[Loop]:
    loop, stop = Loop(engine, address, "inventory"), threading.Event()
    thread = threading.Thread(target=loop.run, args=(stop,))
    thread.start()
    try:
        yield loop
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def joined(until: Until, address: broker.Address, host_id: str, start: str = "s1") -> FakeHost:
    host = FakeHost(address, host_id, start)
    until(lambda: host.hear() and host.link.connected, f"{host_id} never connected: {host.link.error}")
    return host


def settle(until: Until, host: FakeHost) -> None:
    until(lambda: host.exchange() and not host.unacked, "never acked")


def count(engine: Engine, sql: str) -> int:
    with engine.connect() as conn:
        return int(rows(conn, sql)[0][0])


def store_policy(engine: Engine, yaml: str = POLICY, name: str = "rings", at_ms: int = 1) -> None:
    with writing(engine) as conn:
        put_policy(conn, PolicyEntry(name=name, text=yaml, hash=str(at_ms), priority=0, created_ms=at_ms))


def test_a_host_is_born_reports_is_acked_and_told_what_to_be(
    any_broker: broker.Address, engine: Engine, until: Until
) -> None:
    store_policy(engine)
    with looping(engine, any_broker) as loop:
        until(lambda: loop.counters.connected, "the loop never connected")
        host = joined(until, any_broker, "a1")
        host.birth()
        host.report(NIC, ETHTOOL)
        host.send()
        until(lambda: host.hear() and not host.unacked, "the row was never acked")
        until(lambda: host.hear() and host.desired, "no document came")
        document = host.desired[-1]
        assert (document.host_id, document.generation) == ("a1", 1)
        assert [(one.knob, one.nic, one.values) for one in document.settings] == [("rings", MAC, {"rx": "max"})]
        assert count(engine, "SELECT count(*) FROM event WHERE kind = 'test.tick'") == 1
        assert loop.counters.rows > 0
        before = len(host.desired)
        host.birth()  # a reconnect: the answer does not depend on the retained copy
        until(lambda: host.hear() and len(host.desired) > before, "the second birth was not answered")
        assert host.desired[-1].generation == 1
        host.link.close()


def test_a_start_that_is_unknown_is_asked_for_its_birth_and_loses_nothing(
    any_broker: broker.Address, engine: Engine, until: Until
) -> None:
    with looping(engine, any_broker) as loop:
        until(lambda: loop.counters.connected, "the loop never connected")
        host = joined(until, any_broker, "a1")
        host.report()
        host.report()
        host.send()
        until(lambda: host.hear() and "rebirth" in host.commands, "it was never asked")
        assert host.unacked
        host.birth()
        until(lambda: host.exchange() and not host.unacked, "the rows were never acked")
        assert host.acks[-1].seq == 2
        until(lambda: count(engine, "SELECT count(*) FROM event WHERE kind = 'test.tick'") == 2, "rows twice or not")
        host.link.close()


def test_a_policy_that_somebody_else_stores_is_noticed_and_new_facts_are_compiled_for(
    mosquitto: broker.Broker, engine: Engine, until: Until
) -> None:
    with looping(engine, mosquitto.address):
        host = joined(until, mosquitto.address, "a1")
        until(lambda: host.greet() and count(engine, "SELECT count(*) FROM host"), "never born")
        host.report(NIC, ETHTOOL)
        until(lambda: host.exchange() and not host.unacked, "never acked")
        assert host.desired == []
        store_policy(engine)
        until(lambda: host.hear() and host.desired, "the policy was not noticed")
        other = "02:00:00:00:00:02"
        second = msgspec.structs.replace(NIC, key=other, ifname="eth1", ifindex=3, mac=other)
        host.report(NIC, ETHTOOL, second)
        host.send()
        until(lambda: host.hear() and host.desired[-1].generation == 2, "the new NIC was not compiled for")
        assert [one.nic for one in host.desired[-1].settings] == [MAC, other]
        store_policy(engine, POLICY.replace("edge", "core"), at_ms=2)
        until(lambda: host.hear() and host.desired[-1].generation == 3, "the end of the match was not noticed")
        assert host.desired[-1].settings == []
        host.link.close()


def test_good_reports_go_through_a_storm_of_poison(mosquitto: broker.Broker, engine: Engine, until: Until) -> None:
    poison = [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"host_id":"b1"}', b"null", b'{"a":' * 5000, b"x" * 5_000_000]
    where = topic("lab", "b1", Channel.REPORT)
    with looping(engine, mosquitto.address) as loop:
        until(lambda: loop.counters.connected, "the loop never connected")
        host = joined(until, mosquitto.address, "a1")
        host.birth()
        for _ in range(40):
            host.report()
        for number, row in enumerate(host.unacked.values()):
            host.link.publish(where, poison[number % len(poison)])
            host.link.publish("rackhand/v1/lab/Not A Host/report", b"{}")
            wrong = msgspec.structs.replace(row, host_id="b1")
            host.link.publish(topic("lab", "a1", Channel.REPORT), encode(wrong))
            host.say(Channel.REPORT, row)
        until(lambda: host.hear() and not host.unacked, f"good rows were held up: {loop.counters}")
        until(lambda: loop.counters.dead >= 40 * 2, f"poison was not kept: {loop.counters}")
        assert count(engine, "SELECT count(*) FROM event WHERE kind = 'test.tick'") == 40
        assert count(engine, "SELECT count(*) FROM dead_letter") == loop.counters.dead
        assert loop.counters.failures == 0
        host.link.close()


@contextmanager
def away(engine: Engine, url: str) -> Iterator[None]:
    """PostgreSQL throws everybody out and lets nobody in; SQLite misses a table."""
    if engine.dialect.name == "sqlite":
        gone, back = "ALTER TABLE stream RENAME TO elsewhere", "ALTER TABLE elsewhere RENAME TO stream"
        with engine.begin() as conn:
            conn.execute(text(gone))
        yield
        with engine.begin() as conn:
            conn.execute(text(back))
        return
    name = str(make_url(url).database)
    with psycopg.connect(url.replace(f"/{name}?", "/postgres?"), autocommit=True) as outside:
        outside.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        outside.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        yield
        outside.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())


def test_while_the_database_is_away_nothing_is_acked_and_nothing_is_lost(
    mosquitto: broker.Broker, engine: Engine, url: str, until: Until
) -> None:
    with looping(engine, mosquitto.address) as loop:
        until(lambda: loop.counters.connected, "the loop never connected")
        host = joined(until, mosquitto.address, "a1")
        host.birth()
        host.report()
        until(lambda: host.exchange() and not host.unacked, "never acked")
        with away(engine, url):
            for _ in range(20):
                host.report()
            host.send()
            until(lambda: host.hear() and loop.counters.failures >= 2, "the outage went unseen")
            assert len(host.unacked) == 20
            assert loop.counters.error
        until(lambda: host.hear() and not host.unacked, "the rows never came through")
        assert count(engine, "SELECT count(*) FROM event WHERE kind = 'test.tick'") == 21
        until(lambda: not loop.counters.error, "the error stayed")
        host.link.close()


@pytest.mark.parametrize("kind", ["mosquitto", "amqtt"])
def test_a_broker_that_restarts_is_found_again(
    kind: str, engine: Engine, tmp_path: Path, make_broker: Callable[[str, Path], broker.Broker], until: Until
) -> None:
    own = make_broker(kind, tmp_path / "broker")
    own.start()
    with looping(engine, own.address) as loop:
        for round_ in (1, 2):
            until(lambda: loop.counters.connected, "the loop never connected")
            host = joined(until, own.address, "a1")
            host.birth()
            host.report()
            host.epoch = f"epoch-{round_}"
            host.unacked = {1: msgspec.structs.replace(host.unacked[1], epoch=host.epoch)}
            settle(until, host)
            host.link.close()
            own.stop()
            until(lambda: not loop.counters.connected, "the loss went unseen")
            own.start()
        until(lambda: loop.counters.connects >= 3, "never connected again")
    own.stop()


def test_many_rows_are_stored_in_few_transactions_and_acked_once_per_batch(
    mosquitto: broker.Broker, engine: Engine, until: Until
) -> None:
    with looping(engine, mosquitto.address) as loop:
        until(lambda: loop.counters.connected, "the loop never connected")
        host = joined(until, mosquitto.address, "a1")
        host.birth()
        until(lambda: count(engine, "SELECT count(*) FROM host"), "never born")
        for _ in range(2000):
            host.report()
        host.send()
        until(lambda: host.hear() and not host.unacked, "the rows were never acked")
        assert count(engine, "SELECT count(*) FROM event WHERE kind = 'test.tick'") == 2000
        assert loop.counters.batches < 500
        assert len(host.acks) <= loop.counters.batches
        host.link.close()


def test_a_machine_that_people_accept_is_asked_for_its_birth(
    mosquitto: broker.Broker, engine: Engine, until: Until
) -> None:
    with looping(engine, mosquitto.address) as loop:
        until(lambda: loop.counters.connected, "the loop never connected")
        host = joined(until, mosquitto.address, "a1")
        until(lambda: host.greet() and count(engine, "SELECT count(*) FROM host"), "never born")
        clone = FakeHost(mosquitto.address, "a1", "s2")
        clone.link = host.link
        clone.serial = "another"
        clone.birth()
        until(lambda: host.hear() and loop.counters.conflicts, "the clone was not noticed")
        clone.report()
        clone.send()
        with writing(engine) as conn:
            accept(conn, 1, 5)
        host.commands.clear()
        until(lambda: host.hear() and "rebirth" in host.commands, "it was never asked")
        host.link.close()
