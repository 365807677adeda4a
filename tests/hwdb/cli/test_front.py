"""The screen of `up` for programs: every form is what it says it is."""

import csv
import io
from pathlib import Path

import pytest
import yaml

from hwdb import front
from hwdb.cli.output import Format
from tests.hwdb.cli.inventory import HOSTILE


@pytest.fixture
def of_alpha(url: str) -> front.Front:
    """The screen of one of the inventory's hosts."""
    return front.collect(url, "host-01", [("API", "http://127.0.0.1:1/api")], enforcing=False, running=False)


def test_csv_has_a_row_for_the_host_each_finding_and_each_place(
    of_alpha: front.Front, capsys: pytest.CaptureFixture[str]
) -> None:
    front.show(of_alpha, Format.CSV)
    text = capsys.readouterr().out
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[:3] == [["what", "value"], ["host", "alpha"], ["host id", "host-01"]]
    assert rows[-1] == ["API", "http://127.0.0.1:1/api"]
    assert len(rows) == 4 + len(of_alpha.findings)
    assert HOSTILE not in text


def test_yaml_is_the_same_document(of_alpha: front.Front, capsys: pytest.CaptureFixture[str]) -> None:
    front.show(of_alpha, Format.YAML)
    assert yaml.safe_load(capsys.readouterr().out)["hostname"] == "alpha"


def test_a_host_that_is_not_known_is_an_empty_screen(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    front.show(front.collect(url, "", [("logs", str(tmp_path))], enforcing=False, running=True), Format.TABLE)
    text = capsys.readouterr().out
    assert "where" in text
    assert "Ctrl-C" in text
