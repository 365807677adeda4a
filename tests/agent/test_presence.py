"""A polled device as a host: what it says of a poll, and of one that failed."""

from typing import Any

import msgspec

from agent.config import Broker, Replay
from agent.presence import Place, Presence
from pollers.schedule import Health, Round
from pollers.target import Polled, Target
from wire.facts import Device
from wire.report import Command, Sample

TARGET = Target(name="pdu-a", protocol="snmp", address="192.0.2.1")


def presence(labels: dict[str, str] | None = None) -> Presence:
    place = Place(Broker(host="192.0.2.254"), Replay(), "default", "s1")
    return Presence(TARGET, "h1", labels or {}, place, wake=lambda: None, ask=lambda: None)


def ended(polled: Polled | None, reason: str = "", state: str = "ok") -> Round:
    return Round(TARGET, 1000, polled, Health(state=state, reason=reason, in_a_row=1 if reason else 0))


def rows(made: Presence) -> list[dict[str, Any]]:
    return [msgspec.json.decode(made.outbox.body(one.seq) or b"") for one in made.outbox.pending(99, oldest=True)]


def test_facts_travel_once_and_samples_when_they_moved() -> None:
    made = presence({"rack": "r1"})
    for celsius in (20.0, 20.3, 21.0):
        sample = Sample("snmp.temp_celsius", "probe:1", celsius)
        made.note(ended(Polled([Device(category="pdu", serial="X1")], [sample], [])))
    told = [row["runs"][0] for row in rows(made)]
    assert ["facts" in run for run in told] == [True, False, False]
    assert [run.get("samples", []) for run in told] == [
        [["snmp.temp_celsius", "probe:1", 20.0]],
        [],
        [["snmp.temp_celsius", "probe:1", 21.0]],
    ]
    assert made.online
    assert made.birth().labels == {"device": "pdu", "rack": "r1"}
    assert made.birth().fingerprint.macs == []
    made.close()


def test_a_device_that_fails_is_offline_and_sick_once() -> None:
    made = presence({"device": "special"})
    made.note(ended(Polled([Device(category="pdu")], [], [])))
    for state in ("failing", "sick", "sick"):
        made.note(ended(None, "no answer", state))
    assert not made.online
    kinds = [event["kind"] for row in rows(made) for event in row.get("events", [])]
    assert kinds == ["collector.failed", "device.sick"]
    made.note(ended(Polled([], [], [])))
    kinds = [event["kind"] for row in rows(made) for event in row.get("events", [])]
    assert kinds[2:] == ["collector.ok", "device.well"]
    assert made.birth().labels == {"device": "special"}
    made.close()


def test_verbs() -> None:
    made = presence()
    assert made._obey(Command(verb="collect")).ok
    refused = made._obey(Command(verb="diagnose"))
    assert (refused.ok, refused.text) == (False, "unknown verb 'diagnose'; a polled device knows: collect, rebirth")
    made.close()
