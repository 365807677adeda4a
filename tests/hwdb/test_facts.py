import json
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from hwdb import store, store_events
from hwdb.ingest import Ingest
from wire.facts import Cpu, Dmi, Ethtool, Hwmon, Memory, Nic

Query = Callable[..., list[tuple[Any, ...]]]
Speaker = Any
NIC = Nic(key="b0:26:28:00:00:01", ifname="eth0", ifindex=2, type="physical", address="0000:01:00.0", firmware="14.2")


def told(query: Query) -> list[tuple[Any, ...]]:
    return query("SELECT kind, key, change, path, before, after FROM history ORDER BY id")


def test_a_nic_that_moved_slot(ingest: Ingest, query: Query, speaker: type[Speaker]) -> None:
    host = speaker()
    moved = replace(NIC, address="0000:81:00.0", ifname="eth3", numa_node=1)
    ingest.batch([host.birth(), host.facts("nic", NIC)])
    ingest.batch([host.facts("nic", moved)])
    assert told(query) == [
        ("nic", NIC.key, "appeared", "", None, None),
        ("nic", NIC.key, "changed", "address", '"0000:01:00.0"', '"0000:81:00.0"'),
        ("nic", NIC.key, "changed", "ifname", '"eth0"', '"eth3"'),
        ("nic", NIC.key, "changed", "numa_node", "null", "1"),
    ]


def test_a_changed_firmware_and_one_ring(ingest: Ingest, query: Query, speaker: type[Speaker]) -> None:
    host = speaker()
    rings = Ethtool(key=NIC.key, ifname="eth0", ifindex=2, rings={"rx": 512, "rx_max": 4096})
    ingest.batch([host.birth(), host.facts("nic", NIC), host.facts("ethtool", rings)])
    newer = replace(rings, rings={"rx": 4096, "rx_max": 4096})
    ingest.batch([host.facts("nic", replace(NIC, firmware="20.5")), host.facts("ethtool", newer)])
    assert told(query)[2:] == [
        ("nic", NIC.key, "changed", "firmware", '"14.2"', '"20.5"'),
        ("ethtool", NIC.key, "changed", "rings.rx", "512", "4096"),
    ]


def test_what_is_no_longer_told_is_gone_and_may_come_back(ingest: Ingest, query: Query, speaker: type[Speaker]) -> None:
    host = speaker()
    ingest.batch([host.birth(), host.facts("nic", NIC), host.facts("memory", Memory(total_kb=1))])
    ingest.batch([host.facts("nic")])
    assert [row[:3] for row in told(query)][2:] == [("nic", NIC.key, "removed")]
    assert query("SELECT kind FROM component WHERE removed_ms IS NULL") == [("memory",)], "of its own collector only"
    ingest.batch([host.facts("nic", replace(NIC, firmware="15"))])
    assert [row[2:4] for row in told(query)][3:] == [("appeared", ""), ("changed", "firmware")]
    assert query("SELECT nics FROM host") == [(1,)]


def test_the_same_again_is_no_change(ingest: Ingest, query: Query, speaker: type[Speaker]) -> None:
    host = speaker()
    ingest.batch([host.birth(), host.facts("nic", NIC)])
    before = told(query), query("SELECT changed_ms FROM component")
    result = ingest.batch([host.facts("nic", NIC)])
    assert (result.changed, result.rows) == ([], 0)
    shuffled = msgspec.Raw(json.dumps(dict(reversed(msgspec.to_builtins(NIC).items()))).encode())
    ingest.batch([host.facts("nic", shuffled)])
    assert (told(query), len(before[1])) == (before[0], 1)


def test_items_of_the_future_are_kept_counted_and_cost_nothing(
    ingest: Ingest, query: Query, speaker: type[Speaker]
) -> None:
    host = speaker()
    future = msgspec.Raw(b'{"kind":"dpu","key":"d0","cores":16}')
    odd = msgspec.Raw(b'{"kind":"nic","key":"b0:26:28:00:00:01","ifname":7}')
    ingest.batch([host.birth(), host.facts("nic", NIC, future)])
    result = ingest.batch([host.facts("nic", odd, future)])
    assert (result.unknown, [ack.seq for _, ack in result.acks]) == (2, [2])
    assert query("SELECT key, removed_ms FROM component") == [(NIC.key, None)], "not understood is not gone"
    kept = {row[0]: row for row in query("SELECT kind, seen, raw, reason FROM unknown_item")}
    assert kept["dpu"][1:3] == (2, bytes(future).decode())
    assert "ifname" in kept["nic"][3]


def test_a_bad_sample_or_event_costs_itself(ingest: Ingest, query: Query, speaker: type[Speaker]) -> None:
    host = speaker()
    run = host.run("load", None, one=1)
    run.samples += [
        msgspec.Raw(text) for text in (b'["load.two","k"]', b'["load.big","k",1e999]', b'["n","k",2,"new"]')
    ]
    events = [msgspec.Raw(b'{"at_ms":1}'), msgspec.Raw(b'{"at_ms":1,"kind":"a","text":"good","severity":"weird"}')]
    result = ingest.batch([host.birth(), host.row(runs=[run], events=events)])
    assert result.unknown >= 3
    assert [ack.seq for _, ack in result.acks] == [1]
    assert query("SELECT metric FROM series") == [("load.one",)]


def test_the_list_entry_is_derived(ingest: Ingest, query: Query, speaker: type[Speaker]) -> None:
    host = speaker()
    veth = Nic(key="veth0", ifname="veth0", ifindex=3, type="veth")
    ingest.batch(
        [
            host.birth(),
            host.facts("nic", NIC, veth),
            host.facts("cpu", Cpu(model="AMD EPYC 7763", threads=128)),
            host.facts("memory", Memory(total_kb=263_000_000)),
            host.facts("dmi", Dmi(vendor="Dell Inc.", product="PowerEdge R6525")),
        ]
    )
    assert query("SELECT vendor, product, cpu, threads, memory_kb, nics FROM host") == [
        ("Dell Inc.", "PowerEdge R6525", "AMD EPYC 7763", 128, 263_000_000, 1)
    ]


def test_findings_are_opened_and_closed(ingest: Ingest, engine: Any, query: Query, speaker: type[Speaker]) -> None:
    host = speaker()
    alarm = Hwmon(key="0000:03:00.0/nvme/temp1", chip="nvme", channel="temp1", unit="°C", crit=85.0, alarm=True)
    ingest.batch([host.birth(), host.facts("hwmon", alarm)])
    with engine.connect() as conn:
        found = store_events.findings(conn)
        entry = store.hosts(conn)[0]
    assert [(one.host_id, one.key) for one in found] == [("h1", alarm.key)]
    assert (entry.findings, entry.severity) == (1, found[0].severity)
    ingest.batch([host.facts("hwmon", replace(alarm, label="Composite"))])
    assert query("SELECT count(*) FROM finding WHERE closed_ms IS NULL") == [(1,)]
    ingest.batch([host.facts("hwmon", replace(alarm, alarm=False))])
    assert query("SELECT count(*) FROM finding WHERE closed_ms IS NULL") == [(0,)]
    assert query("SELECT findings, severity FROM host") == [(0, "")]
    with engine.connect() as conn:
        assert store_events.findings(conn) == []
        assert {one.rule for one in store_events.findings(conn, closed=True)} == {found[0].rule}
