"""Profiles are data: what they may say, and what columns become by them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pollers.lldp_mib import COLUMNS, read
from pollers.meaning import Columns, Meaning, Value, device, mean, number
from pollers.profile import ProfileError, choose, parse, plan_of, profiles
from wire.codec import encode
from wire.facts import FACT, Outlet

HEAD = 'vendor = "V"\ncategory = "pdu"\nmatch = ["1.3.6.1.4.1.7"]\n'
TABLE = """
[[table]]
fact = "outlet"
key = "outlet:{*}"
base = "1.3.6.1.4.1.7.1"
[table.fields]
name = ["3", "2"]
state = { oid = "4", enum = { 0 = "off", 1 = "on" } }
[table.samples]
current_amps = { oid = "5", scale = 0.01, null = [-1], when = { oid = "4", is = [1] } }
"""
BASE = "1.3.6.1.4.1.7.1"
VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**64),
    st.floats(allow_nan=True, allow_infinity=True),
    st.binary(max_size=300),
    st.text(max_size=100),
)
INDICES = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=8).map(tuple)


def understood(columns: Columns, text: str = HEAD + TABLE) -> Meaning:
    return mean(plan_of("p", [parse("p", text)]), columns)


def test_columns_become_facts_and_samples() -> None:
    columns: Columns = {
        f"{BASE}.2": {(1,): b"one", (2,): b"two", (3,): b"three"},
        f"{BASE}.3": {(1,): b"", (2,): b"Server\x1b[0m 2"},
        f"{BASE}.4": {(1,): 1, (2,): 1, (3,): 0},
        f"{BASE}.5": {(1,): 309, (2,): -1, (3,): 5},
    }
    found = understood(columns)
    assert found.facts == [
        Outlet(key="outlet:1", name="one", state="on"),
        Outlet(key="outlet:2", name="Server\N{REPLACEMENT CHARACTER}[0m 2", state="on"),
        Outlet(key="outlet:3", name="three", state="off"),
    ]
    assert [tuple(one) for one in found.measured] == [(f"{BASE}.5.1", "snmp.current_amps", "outlet:1", 3.09)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour = 1", "unknown field `colour`"),
        ("[[table", "Expected"),
        (TABLE.replace('"outlet"', '"volcano"'), "no fact 'volcano'"),
        (TABLE.replace("state =", "mood ="), "no fact 'outlet' with the fields name, mood"),
        (TABLE.replace('oid = "4", enum', 'oid = "4.x", enum'), "'4.x' is not an OID"),
        (TABLE.replace("scale = 0.01", 'scale = "little"'), "Expected `float`"),
        (TABLE + 'broken_volts = { oid = "6", when = { oid = "7", like = "(" } }', "unterminated"),
    ],
)
def test_a_profile_with_a_mistake_is_one_line(text: str, said: str) -> None:
    with pytest.raises(ProfileError) as raised:
        parse("mine", text)
    assert str(raised.value).startswith("profile mine: ")
    assert said in str(raised.value)


def test_the_closest_profile_comes_first() -> None:
    known = [parse("vendor", HEAD), parse("model", HEAD.replace("7", "7.1.2")), parse("all", "")]
    assert choose("1.3.6.1.4.1.7.1.2.9", known).name == "model"
    assert choose("1.3.6.1.4.1.7.1", known).name == "vendor"
    assert choose("1.3.6.1.4.1.77", known).name == ""


def test_profiles_that_come_with_the_program() -> None:
    names = [one.name for one in profiles()]
    assert len(names) > 30
    for one in profiles():
        assert one.match or one.name in ("entity-mib", "if-mib", "ups-mib"), one.name
        assert one.category in ("", "pdu", "ups", "ats", "probe", "switch", "bmc", "device"), one.name
        for question in plan_of(one.name, [one]).tables:
            assert question.gates(), (one.name, question.key)
            assert all(name.rpartition("_")[2] for name in question.samples)


@given(
    st.dictionaries(st.sampled_from([f"{BASE}.{n}" for n in range(2, 6)]), st.dictionaries(INDICES, VALUES, max_size=6))
)
def test_whatever_a_device_answers_is_harmless(columns: Columns) -> None:
    found = understood(columns)
    for fact in found.facts:
        assert FACT.decode(encode(fact)) == fact
        assert isinstance(fact, Outlet)
        assert all(text.isprintable() and len(text) <= 255 for text in (fact.key, fact.name, fact.state))
    assert all(math.isfinite(one.value) for one in found.measured)


ALL = choose("1.3.6.1.4.1.13742.6", profiles())
OIDS = sorted({one.oid for table in ALL.tables for several in table.samples.values() for one in several})


@given(st.dictionaries(st.sampled_from(OIDS), st.dictionaries(INDICES, VALUES, max_size=4), max_size=6))
def test_whatever_answers_a_whole_plan_is_harmless(columns: Columns) -> None:
    found = mean(ALL, columns)
    assert all(math.isfinite(one.value) and len(one.key) <= 200 for one in found.measured)
    device(ALL, columns)


@given(st.dictionaries(st.sampled_from(COLUMNS), st.dictionaries(INDICES, VALUES, max_size=4), max_size=8), st.just({}))
def test_whatever_lldp_mib_says_is_harmless(columns: Columns, interfaces: Columns) -> None:
    for fact in read(columns, interfaces):
        assert FACT.decode(encode(fact)) == fact
        assert fact.key.isprintable()


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        *((7, 7.0), (b"0.375000", 0.375), (b" 42\0", 42.0), ("1e3", 1000.0)),
        *((b"nan", None), (b"", None), (None, None), (float("inf"), None), (b"0x10", None), (b"12 V", None)),
    ],
)
def test_numbers(value: object, wanted: float | None) -> None:
    assert number(value) == wanted  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("unit", "sent", "wanted"), [(1, 238, 23.8), (2, 734, 23.0), (1, -2147483647, None), (7, 238, None)]
)
def test_fahrenheit_is_not_celsius(unit: int, sent: int, wanted: float | None) -> None:
    plan = choose("1.3.6.1.4.1.318.1.3.8.5")
    columns: Columns = {
        "1.3.6.1.4.1.318.1.1.10.4.2.1.0": {(): unit},
        "1.3.6.1.4.1.318.1.1.10.5.1.1.1.3": {(1,): b"THUM-01-A3-F"},
        "1.3.6.1.4.1.318.1.1.10.5.1.1.1.5": {(1,): sent},
    }
    found = {(one.metric, one.key): one.value for one in mean(plan, columns).measured}
    if wanted is None:
        assert found == {}
    else:
        assert math.isclose(found["snmp.temp_celsius", "wireless:1"], wanted, abs_tol=0.01)


def test_a_probe_with_the_first_number_counts() -> None:
    """rPDU2SensorTempHumidityStatusTable: its number is no state."""
    base = "1.3.6.1.4.1.318.1.1.26.10.2.2.1"
    cells: dict[int, Value] = {3: b"hot aisle", 4: 1, 5: 1, 6: 2, 8: 329, 10: 41}
    columns: Columns = {f"{base}.{column}": {(1,): value} for column, value in cells.items()}
    found = mean(choose("1.3.6.1.4.1.318.1.3.4.6"), columns)
    assert [(one.metric, one.value) for one in found.measured] == [
        ("snmp.temp_celsius", 32.9),
        ("snmp.humidity_percent", 41.0),
    ]
    assert [fact.key for fact in found.facts] == ["probe:1"]
