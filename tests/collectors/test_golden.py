"""Every collector over every captured machine, word for word; `--update` rewrites what is expected."""

import json
from pathlib import Path

import msgspec
import pytest

from collectors.registry import ALL, Collector, by_name
from collectors.run import run
from machine.capture import Captured

CAPTURES = sorted((Path(__file__).parents[1] / "captures").glob("*.txt"))
GOLDEN = Path(__file__).parent / "golden"
NAMES = [collector.NAME for collector in ALL]


def output(collector: Collector, capture: Path) -> str:
    result = run(collector, Captured(capture), 0)
    found = {
        "status": result.status,
        "reason": result.reason,
        "facts": result.facts,
        "samples": result.samples,
        "events": result.events,
    }
    return json.dumps(json.loads(msgspec.json.encode(found)), indent=1, ensure_ascii=False) + "\n"


def test_there_are_captures() -> None:
    assert len(CAPTURES) >= 2


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
@pytest.mark.parametrize("name", NAMES)
def test_a_collector_says_of_a_captured_machine_what_it_said_before(name: str, capture: Path, update: bool) -> None:
    text = output(by_name(name), capture)
    golden = GOLDEN / capture.stem / f"{name}.json"
    if update:
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(text)
    assert golden.read_text() == text
    assert output(by_name(name), capture) == text


def test_no_golden_is_left_of_what_is_gone() -> None:
    assert {path.parent.name for path in GOLDEN.glob("*/*")} == {path.stem for path in CAPTURES}
    assert {path.stem for path in GOLDEN.glob("*/*")} == set(NAMES)
