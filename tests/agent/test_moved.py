"""What is sent is enough to know every value within its dead-band, and all of it again after six runs."""

from hypothesis import given
from hypothesis import strategies as st

from agent.moved import FULL_EVERY, Moved
from agent.rows import BANDS
from wire.report import Sample

METRICS = {"x.coarse": 1.0, "x.any": 0.0}
NAMES = st.tuples(st.sampled_from([*METRICS, "x.unknown"]), st.sampled_from("ab"))
RUNS = st.lists(st.dictionaries(NAMES, st.floats(-5, 5)), max_size=20)


@given(RUNS)
def test_whoever_keeps_what_was_sent_knows_every_value_within_its_band(
    runs: list[dict[tuple[str, str], float]],
) -> None:
    moved, since = Moved(METRICS), FULL_EVERY
    known: dict[tuple[str, str], float] = {}
    for values in runs:
        picked, partial = moved.pick("x", [Sample(*name, value) for name, value in values.items()])
        known = {**(known if partial else {}), **{(one.metric, one.key): one.value for one in picked}}
        since = since + 1 if partial else 1
        assert since <= FULL_EVERY
        assert known.keys() >= values.keys()
        for name, value in values.items():
            assert abs(known[name] - value) <= METRICS.get(name[0], 0.0)


def test_only_what_moved_is_sent_and_all_of_it_when_asked() -> None:
    moved = Moved(METRICS)
    still, creeps = Sample("x.any", "", 7.0), [Sample("x.coarse", "", value) for value in (1.0, 1.6, 2.1)]
    assert moved.pick("x", [still, creeps[0]]) == ([still, creeps[0]], False)
    assert moved.pick("x", [still, creeps[1]]) == ([], True)
    assert moved.pick("x", [still, creeps[2]]) == ([creeps[2]], True), "from what was sent, not from what was seen"
    assert moved.pick("y", [still]) == ([still], False), "each collector has runs of its own"
    moved.resend()
    assert moved.pick("x", [still, creeps[2]]) == ([still, creeps[2]], False)


def test_the_bands_are_those_that_the_collectors_declare() -> None:
    assert BANDS["hwmon.temp_celsius"] == 1.0
    assert BANDS["nicstats.rx_bytes"] == 0
