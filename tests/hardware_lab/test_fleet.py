"""Simulated hosts: what they say in themselves, against a real broker and the real inventory."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from collectors.run import collect_facts
from hardware_lab import daemon, replay
from hardware_lab.failure import LabError
from hardware_lab.fleet import Fleet
from hardware_lab.fleet_plan import Options, mistakes
from hardware_lab.simulated import EVENT, EVERYTHING, HELD, RESEND_S, WINDOW, Host
from hwdb.broker import Address, Broker, Kind, choose, claim_port
from machine.capture import Captured
from wire.codec import decode, decode_items
from wire.facts import FACT, Dmi, Nic
from wire.policy import REPORTED, Desired, ReportedStatus
from wire.report import BIRTH, REPORT, SAMPLE, Ack, Fingerprint, Report, Sample
from wire.topics import Channel

BIN = Path(sys.executable).parent
SOAK = int(os.environ.get("RACKHAND_SOAK", "1"))  # make lab-soak
HOSTS = 200 if SOAK == 1 else 5000
CAPTURES = [
    Path(__file__).parents[1] / "captures" / f"{name}.txt" for name in ("firecracker-virtio", "namespace-veth-bridge")
]
VIRTIO = next(path for path in CAPTURES if path.stem == "firecracker-virtio")


def host(number: int = 7, begun_ms: int = 0) -> Host:
    portrait = replay.read_portrait(VIRTIO)
    return Host(portrait, replay.person(portrait, number), uuid4(), begun_ms)


def sent(one: Host, now_s: float = 0.0) -> list[Report]:
    """Every row that may go now."""
    reports = []
    while (row := one.next_row(now_s)) is not None:
        reports.append(decode(REPORT, one.message(row)[1]))
    return reports


def ack(one: Host, seq: int, **other: str) -> Ack:
    return msgspec.structs.replace(Ack(host_id=one.who.host_id, epoch=one.epoch, seq=seq, start=one.start), **other)


# -- what a host is ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_a_hosts_facts_are_the_captures_but_for_its_names(capture: Path) -> None:
    portrait = replay.read_portrait(capture)
    one, other = (replay.person(portrait, number) for number in (1, 2))
    mine = [fact for subject in portrait.subjects for fact in replay.own_facts(subject, one)]
    facts, kept = decode_items(FACT, [msgspec.Raw(fact) for fact in mine])
    assert kept == []
    assert {type(fact) for fact in facts} == {type(fact) for fact in collect_facts(Captured(capture))}
    real = sorted(fact.ifname for fact in collect_facts(Captured(capture)) if isinstance(fact, Nic))
    assert sorted(fact.ifname for fact in facts if isinstance(fact, Nic)) == real
    [dmi] = [fact for fact in facts if isinstance(fact, Dmi)]
    assert (dmi.hostname, dmi.serial) == ("sim-00001", "SIM0000001")
    theirs = b"".join(fact for subject in portrait.subjects for fact in replay.own_facts(subject, other))
    for mac in portrait.macs:
        assert mac.encode() not in b"".join(mine)
    for word in one.words:
        assert word.encode() not in theirs


def test_hosts_are_the_same_whenever_they_are_made_and_unlike_all_others() -> None:
    portrait = replay.read_portrait(VIRTIO)
    people = [replay.person(portrait, number) for number in range(1, 501)]
    assert people == [replay.person(replay.read_portrait(VIRTIO), number) for number in range(1, 501)]
    assert len({one.host_id for one in people}) == 500
    assert len({word for one in people for word in one.words}) == 500 * len(people[0].words)
    prints = [replay.fingerprint(portrait, one) for one in people]
    for part in Fingerprint.__struct_fields__:
        assert len({str(getattr(one, part)) for one in prints}) == 500, part
    assert prints[0].macs == [people[0].words[place] for place in portrait.permanent]


def test_counters_grow_gauges_swing_and_keys_are_the_hosts_own() -> None:
    one = host()
    for subject in one.portrait.subjects:
        early, late = (replay.samples(subject, one.who, elapsed_s) for elapsed_s in (0.0, 1800.0))
        for number, first, last in zip(subject.numbers, early, late, strict=True):
            assert first.metric == last.metric == number.metric
            assert number.gauge or first.value <= last.value
            assert not number.gauge or abs(last.value - number.value) <= 0.06 * abs(number.value) + 1
            assert number.word < 0 or last.key in one.who.words
    moved = replay.samples(next(s for s in one.portrait.subjects if s.collector == "load"), one.who, 1800.0)
    assert any(sample.value for sample in moved)


# -- what it says ------------------------------------------------------------------------------------------------------


def test_the_first_report_has_everything_and_the_next_ones_only_samples() -> None:
    one = host()
    one.add(EVERYTHING, 1000)
    one.add(10.0, 11_000)
    one.add(EVENT, 12_000)
    first, second, third = sent(one)
    assert [run.collector for run in first.runs] == [subject.collector for subject in one.portrait.subjects]
    digests = {run.collector: run.digest for run in first.runs}
    assert all(run.facts is not None for run in first.runs)
    assert {run.collector for run in second.runs} == {s.collector for s in one.portrait.subjects if s.every_s == 10.0}
    assert all(run.facts is None and run.digest == digests[run.collector] for run in second.runs)
    samples, kept = decode_items(SAMPLE, [item for run in second.runs for item in run.samples])
    assert kept == []
    assert isinstance(samples[0], Sample)
    assert [event["kind"] in ("link.up", "link.down") for event in map(msgspec.json.decode, third.events)] == [True]
    assert [(report.seq, report.floor) for report in (first, second, third)] == [(1, 1), (2, 1), (3, 1)]


def test_rows_wait_for_the_window_and_go_with_the_ack() -> None:
    one = host()
    for at in range(WINDOW + 3):
        one.add(10.0, at)
    assert len(sent(one)) == WINDOW
    assert one.acked(ack(one, 3), 1.0) == 3
    assert [report.seq for report in sent(one)] == [WINDOW + 1, WINDOW + 2, WINDOW + 3]
    assert one.acked(ack(one, 99, epoch="another"), 1.0) == 0
    assert one.acked(ack(one, 99, start="another"), 1.0) == 0
    assert one.acked(ack(one, WINDOW + 3, start=""), 1.0) == WINDOW
    assert one.held == 0


def test_rows_that_nobody_acks_go_again_ever_later_and_the_oldest_are_dropped() -> None:
    one = host()
    dropped = sum(one.add(10.0, at) for at in range(HELD + 5))
    assert (dropped, one.held) == (5, HELD)
    assert {report.floor for report in sent(one, 0.0)} == {6}
    assert one.overdue(RESEND_S - 1) == 0
    assert one.overdue(RESEND_S) == WINDOW
    assert [report.seq for report in sent(one, RESEND_S)] == list(range(6, 6 + WINDOW))
    assert one.overdue(RESEND_S * 2) == 0
    assert one.overdue(RESEND_S * 3) == WINDOW
    one.connected()
    assert len(sent(one, 100.0)) == WINDOW


def test_a_desired_document_is_taken_note_of_and_never_applied() -> None:
    one = host()
    said = decode(REPORTED, one.reported(Desired(host_id=one.who.host_id, generation=4, hash="h"), 5))
    assert (said.status, said.generation, said.hash) == (ReportedStatus.PENDING, 4, "h")
    assert decode(BIRTH, one.birth(6)).generation == 4


def test_what_is_out_of_its_limits_is_said_and_a_capture_that_is_none() -> None:
    right = Options(host="127.0.0.1", port=1883, captures=CAPTURES)
    assert mistakes(right) == []
    wrong = msgspec.structs.replace(right, hosts=20_001, minutes=2000, per_s=0, speed=1000, captures=[], site="a/b")
    assert len(mistakes(wrong)) == 6
    with pytest.raises(LabError, match="hosts must be 1 to 20000, not 20001"):
        Fleet(wrong)
    with pytest.raises(LabError, match="none"):
        replay.read_portrait(Path("/nowhere/none.txt"))


def test_no_broker_is_one_line() -> None:
    with pytest.raises(LabError, match=r"no broker at 127\.0\.0\.1:"):
        Fleet(Options(host="127.0.0.1", port=claim_port(0), captures=CAPTURES, hosts=1)).run()


# -- against brokers and the inventory ---------------------------------------------------------------------------------


@pytest.fixture(params=[Kind.MOSQUITTO, Kind.AMQTT])
def any_broker(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Broker]:
    own = choose(tmp_path, 0, request.param)
    own.start()
    yield own
    own.stop()


@pytest.mark.broker
def test_without_an_inventory_a_fleet_ends_in_its_time_and_says_what_is_left(any_broker: Broker) -> None:
    options = Options(host=any_broker.address.host, port=any_broker.address.port, captures=CAPTURES, hosts=20)
    fleet = Fleet(msgspec.structs.replace(options, minutes=0.05))
    fleet.last_acks_s = 1.0
    summary = fleet.run()
    assert (summary.births, summary.acked, summary.lost) == (20, 0, 0)
    assert summary.unacked == summary.rows >= 20
    assert summary.connected == 0


@pytest.mark.broker
def test_a_fleet_outlives_its_broker(tmp_path: Path) -> None:
    own = choose(tmp_path, 0, Kind.MOSQUITTO)
    own.start()
    fleet = Fleet(Options(host=own.address.host, port=own.address.port, captures=CAPTURES, hosts=10, minutes=2))
    fleet.last_acks_s = 0.1
    thread = threading.Thread(target=fleet.run)
    thread.start()
    try:
        assert daemon.await_(lambda: fleet.summary.births == 10, 60)
        own.stop()
        assert daemon.await_(lambda: fleet.summary.lost >= 10, 60)
        own.start()
        assert daemon.await_(lambda: fleet.summary.births >= 20, 60)
    finally:
        fleet.stop()
        thread.join(60)
        own.stop()
    assert not thread.is_alive()


class Inventory:
    """`rackhand up` without an agent, on a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = Address("127.0.0.1", claim_port(0))
        state = folder / "state"
        argv = [str(BIN / "rackhand"), "up", "--no-agent", "--state", str(state), "--port", str(self.address.port)]
        self.db = f"sqlite:///{state / 'rackhand.db'}"
        daemon.start([*argv, "--db", self.db], folder, "up")
        daemon.await_ready(folder, "up", lambda: "API" in (folder / "up.log").read_text(), 60)

    def ask(self, *verb: str) -> list[dict[str, Any]]:
        argv = [str(BIN / "rackhand"), *verb, "--db", self.db, "-o", "json"]
        found: list[dict[str, Any]] = json.loads(subprocess.run(argv, check=True, capture_output=True).stdout)
        return found


@pytest.fixture
def inventory(tmp_path: Path) -> Iterator[Inventory]:
    yield Inventory(tmp_path)
    daemon.stop(tmp_path, "up")


@pytest.mark.broker
def test_two_hundred_hosts_are_inventoried_and_every_row_is_acked(inventory: Inventory) -> None:
    said: list[str] = []
    options = Options(host=inventory.address.host, port=inventory.address.port, captures=CAPTURES, hosts=HOSTS)
    summary = Fleet(msgspec.structs.replace(options, reports=3, speed=20, minutes=5 * SOAK), said.append).run()
    print(summary.line)
    assert (summary.births, summary.rows, summary.acked) == (HOSTS, 3 * HOSTS, 3 * HOSTS)
    assert (summary.dropped, summary.unacked, summary.lost, summary.bad) == (0, 0, 0, 0)
    assert f"{3 * HOSTS} of {3 * HOSTS} rows acked" in summary.line
    hosts = inventory.ask("hosts")
    assert {host["hostname"] for host in hosts} == {f"sim-{number:05d}" for number in range(1, HOSTS + 1)}
    assert all(host["cpu"] and host["memory_kb"] for host in hosts)
    assert daemon.await_(lambda: not any(host["online"] for host in inventory.ask("hosts")), 60)
    nics = inventory.ask("nics", "-w", "driver=virtio_net")
    assert len({nic["nic"]["key"] for nic in nics}) == HOSTS // 2  # every other host is of the capture with a NIC
    assert inventory.ask("conflicts", "list") == []


def test_a_row_goes_to_the_channel_of_what_is_in_it() -> None:
    one = host()
    one.add(EVENT, 1)
    one.add(10.0, 2)
    channels = []
    while (row := one.next_row(0.0)) is not None:
        channels.append(one.message(row)[0])
    assert channels == [Channel.EVENT, Channel.REPORT]
