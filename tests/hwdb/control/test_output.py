"""Rows to people and programs: every form parses back, nothing a terminal or a spreadsheet would obey gets through."""

import csv
import io
import json
from typing import NamedTuple

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hwdb.cli.output import Column, Format, cell, clean, csv_cell, emit

ESCAPES = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b]8;;http://evil\x1b\\link\x9b2J \u202egnp.exe \x07\x08\r\n\tend\x1bc"


class Row(msgspec.Struct):
    name: str
    count: int
    tags: list[str] = []
    when: float | None = None


COLUMNS = [
    Column[Row]("name", lambda row: row.name),
    Column[Row]("count", lambda row: row.count),
    Column[Row]("tags", lambda row: row.tags, wide=True),
]
ROWS = [Row("=cmd|' /C calc'!A0", -5, ["a", "b"]), Row(ESCAPES, 0), Row("plain", 7, when=1.5)]


class Seen(NamedTuple):
    out: str
    err: str


def shown(capsys: pytest.CaptureFixture[str], form: Format, rows: list[Row]) -> Seen:
    emit(rows, COLUMNS, form, empty="no rows")
    return Seen(*capsys.readouterr())


def test_json_and_yaml_give_back_the_rows(capsys: pytest.CaptureFixture[str]) -> None:
    wanted = msgspec.to_builtins(ROWS)
    text = shown(capsys, Format.JSON, ROWS).out
    assert json.loads(text) == wanted
    assert clean(text.replace("\n", "")) == text.replace("\n", "")
    text = shown(capsys, Format.YAML, ROWS).out
    assert yaml.safe_load(text) == wanted
    assert clean(text.replace("\n", "")) == text.replace("\n", "")


def test_csv_parses_back_and_runs_no_formula(capsys: pytest.CaptureFixture[str]) -> None:
    parsed = list(csv.reader(io.StringIO(shown(capsys, Format.CSV, ROWS).out)))
    assert parsed[0] == ["name", "count", "tags"]
    assert parsed[1] == ["'=cmd|' /C calc'!A0", "-5", "a,b"]
    assert parsed[2][0] == "red  link gnp.exe   end"
    assert all(cells[0][:1] not in "=+-@" for cells in parsed[1:])


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "|x", "\t=1", "\r=1", "\x00=1", "\u200b=1"])
def test_every_beginning_of_a_formula_gets_a_quote(text: str) -> None:
    assert str(csv_cell(text)).startswith("'")


def test_a_table_is_plain_and_complete_where_stdout_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, Format.TABLE, [Row("x" * 300, 1), Row("kurz", 22)]).out.splitlines()
    assert lines == ["NAME" + " " * 298 + "COUNT", "x" * 300 + "  1", "kurz" + " " * 298 + "22"]
    wide = shown(capsys, Format.WIDE, [Row("a", 1, ["t"])]).out.splitlines()
    assert wide == ["NAME  COUNT  TAGS", "a     1      t"]


def test_wide_characters_stay_in_their_columns(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, Format.TABLE, [Row("機架", 1), Row("ab", 2)]).out.splitlines()
    assert lines[1:] == ["機架  1", "ab    2"]


def test_no_rows_say_so_and_stay_valid(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, Format.TABLE, []) == ("", "no rows\n")
    assert json.loads(shown(capsys, Format.JSON, []).out) == []
    assert yaml.safe_load(shown(capsys, Format.YAML, []).out) == []
    assert shown(capsys, Format.CSV, []).out == "name,count,tags\n"


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_what_is_cleaned_holds_no_control_character(text: str) -> None:
    left = clean(text)
    assert not any(ord(letter) < 32 or 0x7F <= ord(letter) < 0xA0 for letter in left)
    assert clean(left) == left


def test_cells_of_every_type() -> None:
    assert [cell(value) for value in (None, "", True, False, 0, 1.50, ["a", 2], [])] == [
        "-",
        "-",
        "yes",
        "no",
        "0",
        "1.5",
        "a,2",
        "-",
    ]
