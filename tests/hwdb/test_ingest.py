import itertools
import random
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from hwdb.db import open_engine
from hwdb.ingest import BatchResult, Incoming, Ingest
from wire.codec import encode
from wire.facts import Memory, Nic
from wire.policy import Reported, ReportedStatus
from wire.report import Event, Result

Query = Callable[..., list[tuple[Any, ...]]]
Speaker = Any

TABLES = {
    "sample": "SELECT n.metric, n.key, s.at_ms, s.value FROM sample s JOIN series n ON n.id = s.series_id "
    "WHERE n.host_id = :host ORDER BY 1, 2, 3, 4",
    "event": "SELECT at_ms, kind, text FROM event WHERE host_id = :host ORDER BY at_ms, kind, text",
    "component": "SELECT kind, key, data FROM component WHERE host_id = :host AND removed_ms IS NULL ORDER BY 1, 2",
    "collector": "SELECT collector, at_ms, seq, facts_seq, samples_seq, samples_ms FROM collector_state "
    "WHERE host_id = :host ORDER BY collector",
    "stream": "SELECT epoch, acked, beyond FROM stream WHERE host_id = :host",
    "unknown": "SELECT collector, kind FROM unknown_item WHERE host_id = :host ORDER BY 1, 2",
}


def acks(result: BatchResult) -> dict[str, int]:
    return {ack.host_id: ack.seq for _, ack in result.acks}


def rows_of(host: Any) -> list[Incoming]:
    """Twelve rows with everything in them: samples, facts that change and go, events, an item of the future."""
    made = []
    for seq in range(1, 13):
        host.now_ms = 1_000_000 + seq * 10_000
        facts = [Memory(total_kb=1000 + seq // 4), *([Nic(key="m", ifname="eth0", ifindex=2)] if seq < 9 else [])]
        future = msgspec.Raw(b'{"kind":"quantum","key":"q"}')
        runs = [
            host.run("memory", [*facts, future] if seq % 3 == 0 else None, used=seq, free=-seq),
            host.run("load", None, one=seq / 7),
        ]
        made.append(host.row(runs=runs, events=[Event(at_ms=seq, kind="k", text=str(seq))], seq=seq))
    return made


def tables(query: Query, host_id: str) -> dict[str, list[tuple[Any, ...]]]:
    return {name: query(sql, host=host_id) for name, sql in TABLES.items()}


def test_once_in_order_is_what_everything_else_is_compared_with(
    ingest: Ingest, query: Query, speaker: type[Speaker]
) -> None:
    host = speaker()
    result = ingest.batch([host.birth(), *rows_of(host)])
    assert acks(result) == {"h1": 12}
    assert (result.dead, result.unknown) == (0, 4)
    found = tables(query, "h1")
    assert len(found["sample"]) == 36
    assert [row[2] for row in found["event"]] == [str(seq) for seq in range(1, 13)]
    assert found["stream"] == [("e1", 12, "")]
    assert found["component"] == [("memory", "memory", '{"kind":"memory","total_kb":1003}')]
    assert found["unknown"] == [("memory", "quantum")]
    assert query("SELECT seen FROM unknown_item") == [(4,)]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_any_interleaving_gives_the_same_tables(
    seed: int, cuts: list[int], ingest: Ingest, query: Query, speaker: type[Speaker]
) -> None:
    """Duplicated, reordered, dropped and sent again until acked, in batches of any size."""
    order = random.Random(seed)  # noqa: S311
    host, twin = (speaker(f"h{uuid.uuid4().hex}") for _ in range(2))
    ingest.batch([twin.birth(), *rows_of(twin)])
    ingest.batch([host.birth()])
    made = rows_of(host)
    acked, seen = 0, set[int]()
    while acked < 12:
        sent = [seq for seq in range(acked + 1, 13) for _ in range(order.choice((0, 1, 1, 2)))]
        order.shuffle(sent)
        for batch in _batches(sent, cuts):
            result = ingest.batch([made[seq - 1] for seq in batch])
            seen |= set(batch)
            expected = next(seq for seq in range(13) if seq + 1 not in seen)
            assert acks(result) == {host.host_id: expected}
            acked = expected
    assert tables(query, host.host_id) == tables(query, twin.host_id)


def _batches(sent: Sequence[int], cuts: Sequence[int]) -> list[list[int]]:
    made, start = [], 0
    for number in range(len(sent)):
        size = cuts[number % len(cuts)]
        if start < len(sent):
            made.append(list(sent[start : start + size]))
            start += size
    return made


def test_history_is_a_chain_whatever_the_order(ingest: Ingest, query: Query, speaker: type[Speaker]) -> None:
    host = speaker()
    ingest.batch([host.birth()])
    made = rows_of(host)
    for seq in (6, 1, 3, 2, 9, 4, 5, 12, 7, 8, 10, 11):
        ingest.batch([made[seq - 1]] * 2)
    chain = query("SELECT before, after FROM history WHERE kind = 'memory' AND change = 'changed' ORDER BY id")
    for (_, after), (before, _) in itertools.pairwise(chain):
        assert after == before
    assert chain[-1][1] == "1003"


def test_a_dropped_row_is_a_gap_and_the_floor_passes_it(ingest: Ingest, query: Query, speaker: type[Speaker]) -> None:
    host = speaker()
    made = rows_of(host)
    assert acks(ingest.batch([host.birth(), *made[:3], *made[5:8]])) == {"h1": 3}
    host.floor = 6
    assert acks(ingest.batch([host.row(seq=9)])) == {"h1": 9}
    assert query("SELECT acked, gaps FROM stream") == [(9, 2)]


def test_a_late_row_adds_samples_but_no_old_truth(ingest: Ingest, query: Query, speaker: type[Speaker]) -> None:
    host = speaker()
    old = host.row(runs=[host.run("memory", [Memory(total_kb=1)], used=1)])
    new = host.row(runs=[host.run("memory", [Memory(total_kb=2)], used=2)])
    ingest.batch([host.birth(), new])
    ingest.batch([old])
    assert query("SELECT data FROM component") == [('{"kind":"memory","total_kb":2}',)]
    assert query("SELECT samples_seq FROM collector_state") == [(2,)]
    assert query("SELECT count(*) FROM sample") == [(2,)]


def test_a_clock_set_back_does_not_freeze_the_inventory(ingest: Ingest, query: Query, speaker: type[Speaker]) -> None:
    host = speaker()
    ingest.batch([host.birth(), host.facts("memory", Memory(total_kb=1))])
    host.now_ms -= 900_000
    ingest.batch([host.facts("memory", Memory(total_kb=2))])
    assert query("SELECT data FROM component") == [('{"kind":"memory","total_kb":2}',)]


def test_a_new_spool_takes_over_from_the_old(ingest: Ingest, query: Query, speaker: type[Speaker]) -> None:
    host = speaker()
    ingest.batch([host.birth(), host.facts("memory", Memory(total_kb=1), seq=70)])
    late = host.facts("memory", Memory(total_kb=2), seq=71)
    host.epoch, host.start = "e2", "s2"
    ingest.batch([host.birth(), host.facts("memory", Memory(total_kb=3), seq=1), late])
    assert query("SELECT data FROM component") == [('{"kind":"memory","total_kb":3}',)]
    assert query("SELECT epoch, acked FROM stream ORDER BY epoch") == [("e1", 0), ("e2", 1)]


def test_unknown_start_is_neither_stored_nor_acked(ingest: Ingest, query: Query, speaker: type[Speaker]) -> None:
    host = speaker()
    row = host.facts("memory", Memory(total_kb=1))
    result = ingest.batch([row])
    assert (result.acks, result.rebirth, result.rows) == ([], [("lab", "h1")], 0)
    assert query("SELECT count(*) FROM component") == [(0,)]
    assert acks(ingest.batch([row, host.birth()])) == {"h1": 1}, "in one batch the birth comes first"


def test_births_are_answered_every_time(ingest: Ingest, query: Query, speaker: type[Speaker]) -> None:
    host = speaker()
    host.labels = {"role": "edge"}
    for _ in range(2):
        result = ingest.batch([host.birth()])
        assert [(site, born.host_id) for site, born in result.births] == [("lab", "h1")]
    assert query("SELECT site, hostname, labels, online FROM host") == [("lab", "h1.example", '{"role":"edge"}', True)]
    host.now_ms += 1
    host.labels = {}
    ingest.batch([host.birth(), Incoming(*host.birth(at_ms=5, labels={"old": "copy"}))])
    assert query("SELECT labels FROM host") == [("{}",)]


def test_only_the_newest_start_says_whether_it_is_online(ingest: Ingest, query: Query, speaker: type[Speaker]) -> None:
    host, before = speaker(), speaker()
    ingest.batch([host.birth()])
    host.start = "s2"
    ingest.batch([host.birth(), before.state(online=False)])
    assert query("SELECT online FROM host") == [(True,)]
    ingest.batch([host.state(online=False)])
    assert query("SELECT online FROM host") == [(False,)]


def test_a_last_will_that_is_read_before_the_birth(ingest: Ingest, query: Query, speaker: type[Speaker]) -> None:
    """Retained messages come in any order."""
    host = speaker()
    ingest.batch([host.state(online=False)])
    ingest.batch([host.birth()])
    assert query("SELECT online FROM host") == [(False,)]


def test_the_newest_reported_state_wins(ingest: Ingest, query: Query, speaker: type[Speaker]) -> None:
    host = speaker()

    def told(generation: int, at_ms: int, status: str) -> Incoming:
        state = Reported(
            host_id="h1",
            start="s1",
            generation=generation,
            hash="x",
            status=ReportedStatus(status),
            at_ms=at_ms,
        )
        return host.say("reported", state)  # type: ignore[no-any-return]

    assert ingest.batch([told(1, 1, "applied")]).rebirth == [("lab", "h1")]
    ingest.batch([host.birth(), told(2, 9, "failed"), told(1, 10, "applied")])
    ingest.batch([told(2, 8, "pending")])
    assert query("SELECT reported_generation, reported_status, generation FROM host") == [(2, "failed", 2)]
    ingest.batch([told(2, 11, "applied")])
    assert query("SELECT status, at_ms FROM reported") == [("applied", 11)]


def test_results_of_commands(ingest: Ingest, query: Query, speaker: type[Speaker]) -> None:
    ingest.batch([Incoming("rackhand/v1/lab/h1/result/c-1", encode(Result(ok=True, text="done")), 5)] * 2)
    assert query("SELECT id, host_id, ok, text, at_ms FROM result") == [("c-1", "h1", True, "done", 5)]


def test_a_full_disk_is_the_callers_to_try_again(speaker: type[Speaker], sqlite_template: Any, tmp_path: Any) -> None:
    path = tmp_path / "full.db"
    path.write_bytes(sqlite_template.read_bytes())
    engine = open_engine(f"sqlite:///{path}")
    host = speaker()
    ingest = Ingest(engine)
    ingest.batch([host.birth()])
    row = host.row(runs=[host.run("load", None, **{f"n{number}": number for number in range(3000)})])
    with engine.connect() as conn:
        pages = conn.exec_driver_sql("PRAGMA page_count").scalar_one()
        conn.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    with pytest.raises(OperationalError, match="full"):
        ingest.batch([row])
    with engine.connect() as conn:
        conn.exec_driver_sql("PRAGMA max_page_count=1000000")
    assert acks(ingest.batch([row])) == {"h1": 1}
    with engine.connect() as conn:
        assert conn.exec_driver_sql("SELECT count(*) FROM sample").scalar_one() == 3000
    engine.dispose()


def test_series_ids_of_a_lost_transaction_are_not_kept(engine: Engine, query: Query, speaker: type[Speaker]) -> None:
    """An id that was rolled back may be given to another series."""
    ingest, host = Ingest(engine), speaker()
    ingest.batch([host.birth()])
    made = host.row(runs=[host.run("load", None, one=1)])
    query("ALTER TABLE sample RENAME TO away")
    with pytest.raises(Exception, match="sample"):
        ingest.batch([made])
    query("ALTER TABLE away RENAME TO sample")
    other = speaker("h2")
    Ingest(engine).batch([other.birth(), other.row(runs=[other.run("load", None, two=2)])])
    ingest.batch([made])
    found = query("SELECT n.host_id, n.metric, s.value FROM sample s JOIN series n ON n.id = s.series_id")
    assert Counter(found) == Counter([("h1", "load.one", 1.0), ("h2", "load.two", 2.0)])


@pytest.mark.parametrize("count", [1, 99, 100, 101, 250])
def test_any_number_of_samples_is_kept_in_order(
    engine: Engine, query: Query, speaker: type[Speaker], count: int
) -> None:
    """They are inserted by the hundred."""
    ingest, host = Ingest(engine), speaker()
    told = {f"m{number}": number / 7 for number in range(count)}
    ingest.batch([host.birth()])
    ingest.batch([host.row(runs=[host.run("load", None, **told)])])
    kept = query("SELECT value FROM sample JOIN series ON series.id = series_id ORDER BY value")
    assert [row[0] for row in kept] == list(told.values())


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a,b", "{}", "NULL", "a\nb", " a ", "\u00e9\U0001f600", "%s"])
def test_what_every_report_changes_is_changed_for_any_name(
    engine: Engine, query: Query, speaker: type[Speaker], name: str
) -> None:
    """The second report writes the hot columns only, found by names that need quotes."""
    ingest, host = Ingest(engine), speaker()
    ingest.batch([host.birth()])
    for value in (1, 2, 3):
        ingest.batch([host.row(runs=[host.run(name, None, one=value), host.run("load", None, one=value)])])
    assert sorted(query("SELECT collector, seq, samples_seq FROM collector_state")) == sorted(
        [(name, 3, 3), ("load", 3, 3)]
    )


def test_a_batch_of_known_and_of_new_series_is_kept_whole(engine: Engine, query: Query, speaker: type[Speaker]) -> None:
    """Those of known series are on their way before the others are looked at."""
    ingest, hosts = Ingest(engine), [speaker(f"h{number}") for number in range(12)]
    many = {f"m{number}": number for number in range(300)}
    ingest.batch([host.birth() for host in hosts])
    ingest.batch([host.row(runs=[host.run("load", None, **many)]) for host in hosts])
    runs = [[host.run("load", None, **many), host.run("new", None, **many)] for host in hosts]
    result = ingest.batch([host.row(runs=told) for host, told in zip(hosts, runs, strict=True)])
    assert result.rows == 12 * 600
    assert query("SELECT count(*) FROM sample") == [(12 * 900,)]
    assert query("SELECT count(DISTINCT metric) FROM series") == [(600,)]


def test_an_earlier_start_that_still_speaks_is_heard_beside_a_stranger(
    engine: Engine, query: Query, speaker: type[Speaker]
) -> None:
    """Its admission is not the one that is read with the host."""
    ingest, host = Ingest(engine), speaker()
    newer, stranger = speaker(start="s2", now_ms=2_000_000), speaker(start="s3")
    ingest.batch([host.birth(), host.row(runs=[host.run("load", None, one=1)])])
    ingest.batch([newer.birth()])
    newer.seq = host.seq = 1
    rows = [newer.row(runs=[newer.run("load", None, one=2)]), host.row(runs=[host.run("load", None, one=3)], seq=3)]
    result = ingest.batch([*rows, stranger.row(runs=[stranger.run("load", None, one=4)], seq=4)])
    assert [(ack.start, ack.seq) for _, ack in result.acks] == [("s2", 3), ("s1", 3)]
    assert result.rebirth == [("lab", "h1")]
    assert query("SELECT value FROM sample ORDER BY value") == [(1.0,), (2.0,), (3.0,)]
