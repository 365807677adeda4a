from hypothesis import given
from hypothesis import strategies as st

from hwdb.ingest_stream import MAX_SPANS, Stream, accept


def test_in_order() -> None:
    stream = Stream("h", "e")
    assert [accept(stream, seq, 1) for seq in (1, 2, 3)] == [True] * 3
    assert (stream.acked, stream.beyond, stream.gaps) == (3, "", 0)


def test_out_of_order_waits_for_what_is_missing() -> None:
    stream = Stream("h", "e")
    for seq in (2, 5, 4):
        accept(stream, seq, 1)
    assert (stream.acked, stream.beyond) == (0, "2-2,4-5")
    accept(stream, 1, 1)
    assert (stream.acked, stream.beyond) == (2, "4-5")
    accept(stream, 3, 1)
    assert (stream.acked, stream.beyond) == (5, "")


def test_the_floor_closes_a_gap_and_counts_it() -> None:
    stream = Stream("h", "e")
    accept(stream, 1, 1)
    accept(stream, 4, 1)
    assert accept(stream, 9, 9)
    assert (stream.acked, stream.beyond, stream.gaps) == (9, "", 6)  # 2 3 5 6 7 8


def test_too_many_holes_are_refused_not_acked() -> None:
    stream = Stream("h", "e")
    for seq in range(2, 2 * MAX_SPANS + 2, 2):
        assert accept(stream, seq, 1)
    assert not accept(stream, 10 * MAX_SPANS, 1)
    assert accept(stream, 1, 1)
    assert stream.acked == 2


@given(st.lists(st.integers(1, 40), max_size=120))
def test_any_order_is_like_a_set(seqs: list[int]) -> None:
    stream, seen = Stream("h", "e"), set[int]()
    for seq in seqs:
        assert accept(stream, seq, 1) == (seq not in seen)
        seen.add(seq)
        mark = 0
        while mark + 1 in seen:
            mark += 1
        assert stream.acked == mark
    assert stream.gaps == 0


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), max_size=60))
def test_floors_only_ever_raise_the_mark(pairs: list[tuple[int, int]]) -> None:
    stream, floor, held = Stream("h", "e"), 1, set[int]()
    for one, other in pairs:
        seq, told = max(one, other), min(one, other)
        fresh = accept(stream, seq, told)
        floor = max(floor, told)
        assert fresh <= (seq not in held)
        held |= {seq} if fresh else set()
        assert stream.acked >= floor - 1
        assert all(seq in held for seq in range(floor, stream.acked + 1))
        assert len(held) + stream.gaps >= stream.acked
