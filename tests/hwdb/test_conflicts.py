from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Engine

from hwdb import store_conflicts, store_events
from hwdb.db import writing
from hwdb.identity import FORGOTTEN_MS, SILENT_MS
from hwdb.ingest import Ingest
from hwdb.store import StoreError
from wire.report import Fingerprint

Query = Callable[..., list[tuple[Any, ...]]]
Speaker = Any
ELSE = Fingerprint(dmi_uuid="other-uuid", product_serial="SN-other", machine_id="m-h1", macs=["52:other"])


def cloned(speaker: type[Speaker]) -> tuple[Speaker, Speaker]:
    """A host, and a machine with a copy of its disk."""
    host, clone = speaker(), speaker(start="s-clone")
    clone.fingerprint = ELSE
    return host, clone


def test_a_clone_is_queued_once_and_overwrites_nothing(ingest: Ingest, query: Query, speaker: type[Speaker]) -> None:
    host, clone = cloned(speaker)
    ingest.batch([host.birth(), host.event(text="mine")])
    for number in range(2):
        clone.hostname = f"clone{number}"
        result = ingest.batch([clone.birth(), clone.state(online=False), clone.event(text="not mine")])
        assert (result.acks, result.births, result.rebirth, result.rows) == ([], [], [], 0)
        assert len(result.conflicts) == (number == 0)
    assert "dmi_uuid 4c4c4544-h1 -> other-uuid" in query("SELECT reason FROM conflict")[0][0]
    assert query("SELECT hostname, online, start FROM host") == [("h1.example", True, "s1")]
    assert query("SELECT text FROM event") == [("mine",)]
    acks = [ack for _, ack in ingest.batch([host.event(text="more")]).acks]
    assert [(ack.seq, ack.start) for ack in acks] == [(2, host.start)], "the clone hears it too, and must not trim"


def test_a_clone_is_a_conflict_however_long_the_first_is_silent(ingest: Ingest, speaker: type[Speaker]) -> None:
    host, clone = cloned(speaker)
    clone.now_ms = host.now_ms + 10 * FORGOTTEN_MS
    ingest.batch([host.birth(), host.state(online=False)])
    assert len(ingest.batch([clone.birth()]).conflicts) == 1


def test_rejected_stays_rejected_after_its_next_start(
    engine: Engine, ingest: Ingest, query: Query, speaker: type[Speaker]
) -> None:
    host, clone = cloned(speaker)
    ingest.batch([host.birth(), clone.birth()])
    with writing(engine) as conn:
        (waiting,) = store_conflicts.conflicts(conn)
        assert (waiting.host_id, waiting.old, waiting.birth.fingerprint) == ("h1", host.fingerprint, ELSE)
        store_conflicts.reject(conn, waiting.id, 5)
        with pytest.raises(StoreError, match="no conflict"):
            store_conflicts.accept(conn, waiting.id, 6)
    clone.start = "s-clone-2"
    result = ingest.batch([clone.birth(), clone.event()])
    assert (result.conflicts, result.acks, result.rebirth) == ([], [], [])
    assert query("SELECT state, resolved_ms FROM conflict") == [("rejected", 5)]


def test_accepted_is_the_host_from_now_on(engine: Engine, ingest: Ingest, query: Query, speaker: type[Speaker]) -> None:
    host, clone = cloned(speaker)
    clone.hostname = "new.example"
    ingest.batch([host.birth(), *[host.event(text=f"old {number}") for number in range(5)], clone.birth()])
    clone.start = "s-clone-2"
    ingest.batch([clone.birth()])
    with writing(engine) as conn:
        first, second = store_conflicts.conflicts(conn)
        accepted = store_conflicts.accept(conn, second.id, 5)
        assert store_conflicts.conflicts(conn) == []
    assert (accepted.site, accepted.host_id, first.start) == ("lab", "h1", "s-clone")
    result = ingest.batch([clone.birth(), clone.event(text="new 1"), host.event(text="late")])
    assert [(ack.epoch, ack.seq) for _, ack in result.acks] == [("e1", 1)], "its copied spool is taken as a new one"
    assert query("SELECT hostname, start FROM host") == [("new.example", "s-clone-2")]
    texts = {row[0] for row in query("SELECT text FROM event")}
    assert "new 1" in texts
    assert "late" not in texts
    host.start = "s9"
    assert len(ingest.batch([host.birth()]).conflicts) == 1, "the machine it was before is the clone now"


def test_a_swapped_nic_is_history(ingest: Ingest, engine: Engine, query: Query, speaker: type[Speaker]) -> None:
    host = speaker()
    ingest.batch([host.birth()])
    host.fingerprint = replace(host.fingerprint, macs=["52:h1", "b4:96:91:aa:00:01"], machine_id="reinstalled")
    host.start, host.now_ms = "s2", host.now_ms + 1
    result = ingest.batch([host.birth(), host.event(text="on")])
    assert (result.conflicts, [ack.seq for _, ack in result.acks]) == ([], [1])
    changed = query("SELECT kind, path, before, after FROM history ORDER BY id")
    assert changed == [
        ("fingerprint", "machine_id", '"m-h1"', '"reinstalled"'),
        ("fingerprint", "macs", '["52:h1"]', '["52:h1","b4:96:91:aa:00:01"]'),
    ]
    with engine.connect() as conn:
        told = [one for one in store_events.events(conn) if one.kind == "host.changed"]
    assert "reinstalled" in told[0].text


@pytest.mark.parametrize(("silent_ms", "conflicts"), [(SILENT_MS - 1000, 1), (SILENT_MS + 1000, 0)])
def test_doubt_is_resolved_by_silence(
    silent_ms: int, conflicts: int, ingest: Ingest, query: Query, speaker: type[Speaker]
) -> None:
    """Every NIC swapped, or a copied virtual machine: the old one being there at the same time tells them apart."""
    host = speaker()
    ingest.batch([host.birth(), host.state(online=False)])
    host.fingerprint = replace(host.fingerprint, macs=["b4:96:91:aa:00:01"])
    host.start, host.now_ms = "s2", host.now_ms + silent_ms
    assert len(ingest.batch([host.birth()]).conflicts) == conflicts
    assert query("SELECT start FROM host") == [("s1" if conflicts else "s2",)]


@pytest.mark.parametrize(("silent_ms", "conflicts"), [(FORGOTTEN_MS, 1), (FORGOTTEN_MS + 1000, 0)])
def test_the_same_hardware_enrolled_again(
    silent_ms: int, conflicts: int, ingest: Ingest, query: Query, speaker: type[Speaker]
) -> None:
    old, new = speaker("old"), speaker("new")
    new.fingerprint = replace(old.fingerprint, machine_id="reinstalled")
    new.now_ms = old.now_ms + silent_ms
    ingest.batch([old.birth(), old.state(online=False)])
    result = ingest.batch([new.birth()])
    assert [(one.host_id, one.other_id) for one in result.conflicts] == [("new", "old")] * conflicts
    assert len(query("SELECT host_id FROM host")) == 2 - conflicts
    if not conflicts:
        assert "old" in query("SELECT text FROM event WHERE host_id = 'new' AND kind = 'host.enrolled_again'")[0][0]


def test_two_new_ids_of_one_machine_in_one_batch(ingest: Ingest, query: Query, speaker: type[Speaker]) -> None:
    one, other = speaker("one"), speaker("other")
    other.fingerprint = one.fingerprint
    assert len(ingest.batch([one.birth(), other.birth()]).conflicts) == 1
    assert query("SELECT host_id FROM host") == [("one",)]


def test_accepting_a_second_id_makes_it_a_host(engine: Engine, ingest: Ingest, speaker: type[Speaker]) -> None:
    one, other = speaker("one"), speaker("other")
    other.fingerprint = one.fingerprint
    ingest.batch([one.birth(), other.birth()])
    with writing(engine) as conn:
        store_conflicts.accept(conn, store_conflicts.conflicts(conn)[0].id, 5)
    result = ingest.batch([other.birth(), other.event()])
    assert [ack.host_id for _, ack in result.acks] == ["other"]


def test_placeholder_serials_make_no_conflict(ingest: Ingest, query: Query, speaker: type[Speaker]) -> None:
    for number in range(3):
        host = speaker(f"h{number}")
        host.fingerprint = Fingerprint(product_serial="Default string", board_serial="0", machine_id=f"m{number}")
        assert ingest.batch([host.birth()]).conflicts == []
    assert query("SELECT count(*) FROM host") == [(3,)]
