from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from hwdb.ingest import Incoming, Ingest
from hwdb.ingest_messages import BoundedEvent, Report, Run, parse
from wire import report as wire
from wire.codec import MAX_BYTES, encode
from wire.facts import Memory
from wire.report import Event

Query = Callable[..., list[tuple[Any, ...]]]
Speaker = Any
TOPIC = "rackhand/v1/lab/h1/report"
GOOD = '{"host_id":"h1","epoch":"e1","seq":%d,"floor":1,"start":"s1"%s}'


def bad(payload: bytes, topic: str = TOPIC) -> Incoming:
    return Incoming(topic, payload, 7)


POISON = {
    "truncated": (bad(b'{"host_id":"h1","epoch"'), "truncated"),
    "empty": (bad(b""), "truncated"),
    "not UTF-8": (bad(b'{"host_id":"h\xff1"}'), "utf-8"),
    "binary": (bad(bytes(range(256))), "malformed"),
    "oversized": (bad(b'{"x":"' + b"x" * MAX_BYTES + b'"}'), "over the limit"),
    "deep": (bad(b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "nested"),
    "wrong host": (
        bad(encode(wire.State(host_id="h2", start="s", online=True)), "rackhand/v1/lab/h1/state"),
        "topic of",
    ),
    "no such channel": (bad(b"{}", "rackhand/v1/lab/h1/gossip"), "unknown channel"),
    "our own channel": (bad(b"{}", "rackhand/v1/lab/h1/ack"), "does not come from hosts"),
    "no topic of ours": (bad(b"{}", "a/b\0/c"), "is not rackhand/v1"),
    "a raw hostname": (bad(b"{}", "rackhand/v1/lab/web1.example/report"), "not a topic id"),
    "a NUL start": (bad((GOOD % (1, "")).replace('"s1"', r'"s\u0000"').encode()), "start is not"),
    "floor above seq": (bad((GOOD % (1, "")).replace('"floor":1', '"floor":9').encode()), "above seq"),
    "huge seq": (bad((GOOD % (10**30, "")).encode()), "<="),
    "NaN": (bad((GOOD % (1, ',"runs":[NaN]')).encode()), "malformed"),
}


@pytest.mark.parametrize("name", POISON)
def test_poison_goes_to_the_dead_letters_and_stops_nothing(
    name: str, ingest: Ingest, query: Query, speaker: type[Speaker]
) -> None:
    host = speaker()
    poison, reason = POISON[name]
    result = ingest.batch([host.birth(), host.event(text="before"), poison, host.event(text="after")])
    assert result.dead == 1
    assert [ack.seq for _, ack in result.acks] == [2]
    assert query("SELECT text FROM event ORDER BY id") == [("before",), ("after",)]
    ((topic, payload, size, why, at_ms),) = query("SELECT topic, payload, bytes, reason, at_ms FROM dead_letter")
    assert (topic, size, at_ms) == (poison.topic.replace("\0", "\ufffd"), len(poison.payload), 7)
    assert reason in why
    assert len(payload) <= 4000


def test_a_row_that_cannot_be_read_is_acked_once_it_is_kept(ingest: Ingest, speaker: type[Speaker]) -> None:
    """It would come back for ever otherwise."""
    host = speaker()
    poison = bad((GOOD % (1, ',"runs":{"not":"a list"}')).encode())
    result = ingest.batch([host.birth(), poison, host.event(seq=2)])
    assert (result.dead, [ack.seq for _, ack in result.acks]) == (1, [2])


def test_poison_of_a_start_that_is_not_admitted_is_not_acked(ingest: Ingest) -> None:
    result = ingest.batch([bad((GOOD % (1, ',"runs":{}')).encode())])
    assert (result.dead, result.acks, result.rebirth) == (1, [], [("lab", "h1")])


HOSTILE = [
    "'; DROP TABLE host; --",
    "\0",
    "\u202e%s{}$1:name",
    "\ud83d\ude00" * 50,
    "x" * 20_000,
    "<script>",
    "\x1b[2J",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_strings_are_just_data(text: str, ingest: Ingest, query: Query, speaker: type[Speaker]) -> None:
    text = text.encode("utf-16", "surrogatepass").decode("utf-16")
    host = speaker()
    host.labels = {"role": text}
    run = host.run("memory", [Memory(total_kb=1, thp=text)], used=1)
    run.reason = run.digest = run.collector = text
    rows = [
        host.birth(),
        host.row(events=[Event(at_ms=1, kind=text, key=text, text=text, data={text: text})]),
        host.row(runs=[run]),
        host.event(text="after"),
    ]
    result = ingest.batch(rows)
    assert [ack.seq for _, ack in result.acks] == [3]
    assert query("SELECT count(*) FROM event WHERE text = 'after'") == [(1,)]
    assert len(query("SELECT host_id FROM host")) == 1


class Trap:
    """Makes the database refuse whatever says "refuse me", as one that knows a limit we do not."""

    def __init__(self, engine: Engine) -> None:
        with engine.begin() as conn:
            if conn.dialect.name == "sqlite":
                conn.exec_driver_sql(
                    "CREATE TRIGGER refuse BEFORE INSERT ON event WHEN NEW.text = 'refuse me'"
                    " BEGIN SELECT RAISE(ABORT, 'refused'); END"
                )
            else:
                conn.exec_driver_sql("ALTER TABLE event ADD CONSTRAINT refuse CHECK (text <> 'refuse me')")


def test_what_the_database_refuses_costs_only_its_message(
    engine: Engine, ingest: Ingest, query: Query, speaker: type[Speaker]
) -> None:
    Trap(engine)
    host, other = speaker(), speaker("h2")
    sent = [host.birth(), other.birth(), host.event(text="one"), host.event(text="refuse me"), other.event(text="two")]
    load = host.row(runs=[host.run("load", None, one=1)])
    result = ingest.batch([*sent, load])
    assert result.dead == 1
    assert {ack.host_id: ack.seq for _, ack in result.acks} == {"h1": 3, "h2": 1}
    assert len(result.births) == 2
    assert query("SELECT text FROM event ORDER BY text") == [("one",), ("two",)]
    assert query("SELECT value FROM sample") == [(1.0,)]
    assert "refused it" in query("SELECT reason FROM dead_letter")[0][0]
    assert ingest.batch([*sent, load]).dead == 0, "the refused row counts as taken"
    assert query("SELECT value FROM sample") == [(1.0,)]


def test_bounded_structs_have_the_fields_of_the_wire() -> None:
    for ours, theirs in ((Run, wire.Run), (Report, wire.Report), (BoundedEvent, wire.Event)):
        assert {field.name for field in msgspec.structs.fields(ours)} == set(theirs.__struct_fields__)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    ["host_id", "epoch", "seq", "floor", "start", "runs", "events", "online", "at_ms", "fingerprint"]
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    channel=st.sampled_from(["birth", "state", "report", "event", "reported", "result/c"]),
    payload=st.binary(max_size=60) | st.dictionaries(FIELDS, JSON).map(msgspec.json.encode),
)
def test_whatever_comes_is_parsed_or_buried(channel: str, payload: bytes, ingest: Ingest) -> None:
    incoming = Incoming(f"rackhand/v1/lab/h1/{channel}", payload, 1)
    parse(incoming)
    ingest.batch([incoming])
