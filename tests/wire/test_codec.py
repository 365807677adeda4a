"""Limits on what is decoded, and item by item decoding that loses nothing."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import facts, report
from wire.codec import MAX_BYTES, MAX_DEPTH, DecodeError, decode, decode_items, encode, raw, too_deep

BIRTH = report.Birth(
    host_id="h1",
    start="s1",
    epoch="e1",
    hostname="web01",
    at_ms=1,
    agent_version="0.1.0",
    fingerprint=report.Fingerprint(),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


@given(JSON, st.integers(0, 6))
def test_depth_is_what_a_parser_counts(value: object, limit: int) -> None:
    assert too_deep(json.dumps(value).encode(), limit) == (depth(value) > limit)


@pytest.mark.parametrize(
    "payload",
    [
        encode(BIRTH)[:-5],
        b"",
        b"\xff\xfe{}",
        encode(BIRTH).replace(b"web01", b"web\xff\xfe01"),
        b"[" * 100_000,
        b'{"host_id":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
        b'{"host_id": 7}',
        b"null",
    ],
    ids=["truncated", "empty", "not utf-8", "not utf-8 inside", "open brackets", "deep unknown", "wrong type", "null"],
)
def test_a_bad_payload_is_one_clear_error(payload: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(report.BIRTH, payload)
    assert str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_oversized_payload_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(DecodeError, match="over the limit"):
        decode(report.BIRTH, b" " * (MAX_BYTES + 1))


@given(st.binary(max_size=400))
def test_any_bytes_are_a_message_or_a_clear_error(payload: bytes) -> None:
    decoders: list[Any] = [report.BIRTH, report.REPORT, report.STATE, report.ACK, report.COMMAND, report.RESULT]
    for decoder in decoders:
        try:
            decode(decoder, payload)
        except DecodeError as error:
            assert "\n" not in str(error)


def test_an_unknown_kind_keeps_the_rest() -> None:
    known = facts.Memory(total_kb=1024)
    items = [raw(known), msgspec.Raw(b'{"kind":"quantum","key":"q0","qubits":9}'), msgspec.Raw(b'{"kind":"nic"}')]
    good, kept = decode_items(facts.FACT, items)
    assert good == [known]
    assert [json.loads(item.raw)["kind"] for item in kept] == ["quantum", "nic"]
    assert "quantum" in kept[0].reason


def test_a_kept_item_is_not_a_bomb() -> None:
    bomb = b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1)
    _, kept = decode_items(facts.FACT, [msgspec.Raw(bomb)])
    assert kept[0].raw == b"null"
    assert "nested" in kept[0].reason
