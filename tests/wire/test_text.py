"""Text from outside is one printable, bounded line; LLDP's identifiers have one spelling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.lldp import CHASSIS, PORT, address, capabilities, identity
from wire.text import MOST, REPLACED, clean


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("  two\r\n lines\t ", "two lines"),
        (b"padded\0\0\0", "padded"),
        (b"in\0side", f"in{REPLACED}side"),
        (b"caf\xc3\xa9 \xff", f"café {REPLACED}"),
        ("\x1b]0;owned\x07\x1b[2J", f"{REPLACED}]0;owned{REPLACED}{REPLACED}[2J"),
        ("right\u202eleft\u200b", f"right{REPLACED}left{REPLACED}"),
        ("x" * 256, "x" * 254 + "…"),
        ("", ""),
    ],
)
def test_one_line_of_what_can_be_printed(text: str | bytes, line: str) -> None:
    assert clean(text) == line


@given(st.text(max_size=400) | st.binary(max_size=400), st.integers(2, MOST))
def test_whatever_comes_is_printable_bounded_and_stays(text: str | bytes, most: int) -> None:
    line = clean(text, most)
    assert line.isprintable()
    assert len(line) <= most
    assert clean(line, most) == line


@given(st.sampled_from([CHASSIS, PORT]), st.integers(0, 255), st.binary(max_size=511))
def test_every_identifier_has_a_harmless_spelling(words: dict[int, str], subtype: int, value: bytes) -> None:
    word, text = identity(words, subtype, value)
    assert word == words.get(subtype, str(subtype))
    assert text.isprintable()
    assert len(text) <= MOST


@given(st.integers(0, 255), st.binary(max_size=20))
def test_an_address_is_one_of_ip_or_none(family: int, value: bytes) -> None:
    assert bool(address(family, value)) == ((family, len(value)) in {(1, 4), (2, 16)})


def test_capabilities_are_the_standards_words() -> None:
    assert capabilities(0x14) == ["bridge", "router"]
    assert capabilities(0) == []
    assert len(capabilities(0xFFFF)) == 11
