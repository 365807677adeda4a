import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace
from sqlalchemy import Engine

from hwdb import store, store_events, store_policy
from hwdb.db import reading, writing
from hwdb.ingest import Ingest
from hwdb.store_policy import PolicyEntry
from wire.codec import encode
from wire.facts import Ethtool, Irq, Memory, Nic, Queue
from wire.policy import Desired, Reported, ReportedStatus

Query = Callable[..., list[tuple[Any, ...]]]
Speaker = Any


@pytest.fixture
def fleet(ingest: Ingest, speaker: type[Speaker]) -> list[Speaker]:
    """Three hosts: two share the beginning of their ids, two their hostname."""
    hosts = [speaker("aa-1"), speaker("aa-2"), speaker("b")]
    hosts[0].labels = {"role": "edge"}
    hosts[2].hostname = hosts[1].hostname
    nic = Nic(key="m", ifname="eth0", ifindex=2, type="physical", driver="ice")
    more = Nic(key="n", ifname="eth1", ifindex=3, type="physical", driver="mlx5_core")
    ethtool = Ethtool(key="m", ifname="eth0", ifindex=2, rings={"rx": 512})
    irq = Irq(key="m", ifname="eth0", source="netdev-genl", queues=[Queue(irq=40, rx=[0], cpus="3")])
    for host in hosts:
        ingest.batch([host.birth(), host.facts("nic", more, nic), host.facts("ethtool", ethtool)])
    ingest.batch([hosts[0].facts("irq", irq), hosts[1].state(online=False)])
    return hosts


def test_hosts_by_the_bare_driver_and_by_sqlalchemy(url: str, engine: Engine, fleet: list[Speaker]) -> None:
    with reading(url) as bare, engine.connect() as conn:
        listed = store.hosts(bare)
        assert listed == store.hosts(conn)
        detail = store.host(bare, "aa-1")
    assert [(one.host_id, one.online, one.nics, one.status) for one in listed] == [
        ("aa-1", True, 2, ""),
        ("aa-2", False, 2, ""),
        ("b", True, 2, ""),
    ]
    assert listed[0].labels == {"role": "edge"}
    assert detail.entry == listed[0]
    assert [one.collector for one in detail.collectors] == ["ethtool", "irq", "nic"]
    assert len(detail.facts) == 4
    assert detail.fingerprint == fleet[0].fingerprint


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("aa-1", "aa-1"),
        ("aa-1.example", "aa-1"),
        ("b", "b"),
        ("aa", store.AmbiguousHostError),
        ("aa-2.example", store.AmbiguousHostError),
        ("c", store.UnknownHostError),
        ("", store.UnknownHostError),
        ("a%", store.UnknownHostError),
    ],
)
def test_resolve(name: str, found: Any, url: str, fleet: list[Speaker]) -> None:
    with reading(url) as conn:
        if isinstance(found, str):
            assert store.resolve(conn, name) == found
        else:
            with pytest.raises(found):
                store.resolve(conn, name)


def test_nics_and_irqs(url: str, fleet: list[Speaker]) -> None:
    with reading(url) as conn:
        everywhere, here = store.nics(conn), store.nics(conn, "b")
        (irq,) = store.irqs(conn, "aa-1")
    assert [(one.host_id, one.nic.ifname) for one in everywhere][:2] == [("aa-1", "eth0"), ("aa-1", "eth1")]
    assert len(everywhere) == 6
    assert [(one.nic.driver, one.ethtool.rings if one.ethtool else None) for one in here] == [
        ("ice", {"rx": 512}),
        ("mlx5_core", None),
    ]
    assert irq.queues[0].cpus == "3"


def test_events_newest_and_following(url: str, ingest: Ingest, fleet: list[Speaker]) -> None:
    ingest.batch([fleet[number % 2].event(text=f"{number}") for number in range(6)])
    with reading(url) as conn:
        newest = store_events.events(conn, limit=2)
        assert [one.text for one in newest] == ["4", "5"]
        assert [one.text for one in store_events.events(conn, after=newest[0].id)] == ["5"]
        assert [one.text for one in store_events.events(conn, "aa-2")] == ["1", "3", "5"]
        assert newest[0].hostname == "aa-1.example"


def test_latest_is_of_the_newest_run(url: str, ingest: Ingest, fleet: list[Speaker]) -> None:
    host, other = fleet[:2]
    for value in (1, 2):
        host.now_ms += 10
        ingest.batch([host.row(runs=[host.run("load", None, one=value, two=value)])])
    host.now_ms += 10
    other.now_ms = host.now_ms
    ingest.batch([host.row(runs=[host.run("load", None, one=3)]), other.row(runs=[other.run("load", None, one=9)])])
    with reading(url) as conn:
        found = store_events.latest(conn, host.host_id)
        assert [(one.metric, one.key, one.value) for one in found] == [("load.one", "k", 3.0)], "two is gone"
        series = store_events.samples(conn, host.host_id, "load.one", "k", since_ms=0)
    assert [value for _, value in series] == [1.0, 2.0, 3.0]


def test_latest_adds_what_moved_since_to_the_newest_whole_run(url: str, ingest: Ingest, fleet: list[Speaker]) -> None:
    host = fleet[0]
    whole = host.run("load", None, one=1, two=2, three=3)
    runs = [whole, *(host.run("load", None, **moved) for moved in ({"one": 10}, {"two": 20}, {"one": 100}))]
    for at, run in enumerate(runs):
        run.at_ms, run.partial = host.now_ms + at, at > 0
    for run in runs:
        ingest.batch([host.row(runs=[run])])
    with reading(url) as conn:
        found = {one.metric: one.value for one in store_events.latest(conn, host.host_id)}
    assert found == {"load.one": 100.0, "load.two": 20.0, "load.three": 3.0}
    again = host.run("load", None, three=4)
    again.at_ms = host.now_ms + 10
    ingest.batch([host.row(runs=[again])])
    with reading(url) as conn:
        assert [one.metric for one in store_events.latest(conn, host.host_id)] == ["load.three"]


def test_errors_that_are_counted_later_are_a_finding(url: str, ingest: Ingest, fleet: list[Speaker]) -> None:
    host = fleet[0]
    quiet = host.run("edac", None)
    for count, expected in ((0, []), (3, ["memory_errors"])):
        run = replace(quiet, at_ms=host.now_ms + count, partial=count > 0)
        run.samples = [Raw(json.dumps(["edac.corrected_errors", "A1", count]).encode())]
        ingest.batch([host.row(runs=[run])])
        with reading(url) as conn:
            assert [one.rule for one in store_events.findings(conn, host.host_id)] == expected


def test_policies_are_versions(engine: Engine, query: Query) -> None:
    first = PolicyEntry(name="p", text="a: 1", hash="x", priority=1, created_ms=10)
    with writing(engine) as conn:
        assert store_policy.put_policy(conn, first)
        assert not store_policy.put_policy(conn, first)
        assert store_policy.put_policy(conn, PolicyEntry(name="p", text="a: 2", hash="y", priority=1, created_ms=20))
        assert [one.text for one in store_policy.policies(conn)] == ["a: 2"]
        assert store_policy.remove_policy(conn, "p", 30)
        assert not store_policy.remove_policy(conn, "p", 40)
        assert store_policy.policies(conn) == []
    assert query("SELECT text, created_ms, removed_ms FROM policy ORDER BY id") == [("a: 1", 10, 20), ("a: 2", 20, 30)]


def test_status_of_hosts(engine: Engine, ingest: Ingest, fleet: list[Speaker]) -> None:
    def statuses() -> dict[str, str]:
        with engine.connect() as conn:
            return {one.host_id: one.status for one in store_policy.statuses(conn)}

    def report(generation: int, status: ReportedStatus) -> None:
        at = fleet[0].now_ms
        told = Reported(host_id="aa-1", start="s1", generation=generation, hash="x", status=status, at_ms=at)
        ingest.batch([fleet[0].say("reported", told)])

    with writing(engine) as conn:
        store_policy.put_desired(conn, Desired(host_id="aa-1", generation=1, hash="x"), 1)
    assert statuses() == {"aa-1": "pending"}
    report(1, ReportedStatus.DRIFTED)
    assert statuses() == {"aa-1": "drifted"}
    with writing(engine) as conn:
        store_policy.put_desired(conn, Desired(host_id="aa-1", generation=2, hash="y"), 2)
        newest = store_policy.desired(conn, "aa-1")
    assert newest
    assert newest.hash == "y"
    assert statuses() == {"aa-1": "pending"}
    report(2, ReportedStatus.APPLIED)
    assert statuses() == {"aa-1": "applied"}


def test_what_could_not_be_taken(url: str, ingest: Ingest, fleet: list[Speaker]) -> None:
    ingest.batch([fleet[0].say("report", {"not": "a report"})])
    with reading(url) as conn:
        (dead,) = store_events.dead_letters(conn)
        assert store_events.unknown_items(conn) == []
    assert json.loads(dead.payload) == {"not": "a report"}
    assert dead.bytes == len(encode({"not": "a report"}))


def test_history_of_a_component(url: str, ingest: Ingest, fleet: list[Speaker]) -> None:
    ingest.batch([fleet[0].facts("memory", Memory(total_kb=1)), fleet[0].facts("memory", Memory(total_kb=2))])
    with reading(url) as conn:
        found = store_events.history(conn, "aa-1", "memory")
    assert [(one.change, one.path, one.before, one.after) for one in found] == [
        ("appeared", "", None, None),
        ("changed", "total_kb", "1", "2"),
    ]


def test_a_listing_does_not_import_sqlalchemy(root: Path) -> None:
    code = "import sys, hwdb.store, hwdb.store_events, hwdb.store_policy, hwdb.store_conflicts, hwdb.db; "
    loaded = subprocess.run(
        [sys.executable, "-c", code + "print(*sys.modules)"], cwd=root, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"sqlalchemy", "psycopg", "alembic", "yaml", "rich"} & set(loaded)
