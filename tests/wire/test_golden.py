"""Messages of past releases decode for ever. A file is added for a new release, never changed."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from wire import facts, policy, report
from wire.codec import decode, decode_items

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*/*.json"))
DECODERS: dict[str, "msgspec.json.Decoder[Any]"] = {
    "birth": report.BIRTH,
    "state": report.STATE,
    "report": report.REPORT,
    "event": report.REPORT,
    "ack": report.ACK,
    "cmd": report.COMMAND,
    "result": report.RESULT,
    "desired": policy.DESIRED,
    "reported": policy.REPORTED,
}


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_it_decodes_and_nothing_in_it_is_lost(path: Path) -> None:
    payload = path.read_bytes()
    message = decode(DECODERS[path.stem], payload)
    again = json.loads(msgspec.json.encode(message))
    assert kept(json.loads(payload), again) == []
    if isinstance(message, report.Report):
        for run in message.runs:
            assert decode_items(facts.FACT, run.facts or [])[1] == []
            assert decode_items(report.SAMPLE, run.samples)[1] == []
        assert decode_items(report.EVENT, message.events)[1] == []


def kept(old: object, new: object, path: str = "") -> list[str]:
    """Where `new` lacks or alters something that `old` says."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [row for name, value in old.items() for row in kept(value, new.get(name), f"{path}.{name}")]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [row for at, value in enumerate(old) for row in kept(value, new[at], f"{path}[{at}]")]
    return [] if old == new else [f"{path}: {old!r} is now {new!r}"]


def test_every_channel_and_every_kind_of_fact_has_a_golden() -> None:
    assert {path.stem for path in GOLDEN} == set(DECODERS)
    kinds = set()
    for path in GOLDEN:
        if path.stem == "report":
            for run in report.REPORT.decode(path.read_bytes()).runs:
                kinds |= {json.loads(bytes(item))["kind"] for item in run.facts or []}
    assert kinds == {kind.__struct_config__.tag for kind in facts.Fact.__args__}
