"""`rackhand cables`: conditions, hosts, and a neighbour whose words would run in a terminal or a spreadsheet."""

import csv
import io
import json
import re
from typing import Any

import pytest

from hwdb.cli.failure import Exit
from hwdb.db import open_engine
from hwdb.ingest import Ingest
from tests.hwdb.cli.inventory import FORMS, HOSTILE, fails, fine, host_messages, parsed, run
from wire.codec import encode, raw
from wire.facts import Lldp
from wire.report import Report, Run
from wire.topics import Channel, topic

NIC = "02:00:00:00:00:{}"
UNPRINTABLE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")


@pytest.fixture
def cabled(url: str) -> str:
    """A server whose two ports hear a hostile neighbour and another server, and one that is deaf."""
    host_id = "a1"
    ingest = Ingest(open_engine(url))
    ingest.batch(host_messages(host_id, "cab", "edge", "SN-a1"))
    near: dict[str, Any] = {"port": "eth0", "chassis_subtype": "local", "source": "lldpd"}
    facts = [
        Lldp(key="k0", chassis_id=HOSTILE, port_id=HOSTILE, system_name=HOSTILE, **near),
        Lldp(key="k0#2", port_key="k0", chassis_id="x", port_id="=1+1", system_name="sw9", **near),
        Lldp(key="k1", port="eth1", state="blocked", reason="the NIC's firmware answers LLDP: ethtool ..."),
    ]
    report = Report(
        host_id=host_id,
        epoch="e1",
        seq=2,
        floor=1,
        start="s1",
        runs=[Run(collector="lldp", at_ms=1_700_000_000_000, digest="d", facts=[raw(fact) for fact in facts])],
    )
    incoming = host_messages(host_id, "cab", "edge", "SN-a1")[-1]
    ingest.batch([incoming._replace(topic=topic("default", host_id, Channel.REPORT), payload=encode(report))])
    return url


def test_every_form_has_every_cable_and_runs_nowhere(cabled: str) -> None:
    for form in FORMS:
        text = fine(cabled, "cables", "-o", form)
        assert len(parsed(form, text)) == 3, (form, text)
        assert not UNPRINTABLE.search(text)
    cells = [one for row in csv.reader(io.StringIO(fine(cabled, "cables", "-o", "csv"))) for one in row]
    assert not [one for one in cells if one[:1] in tuple("=+-@|")]


@pytest.mark.parametrize(
    ("where", "count"),
    [
        (["verdict=blocked"], 1),
        (["verdict=one-sided"], 2),
        (["verdict in crossed,changed"], 0),
        (["verdict!=agree", "port=eth0", "peer=sw*"], 1),
        (["host=cab"], 3),
        (["since_ms>1"], 3),
    ],
)
def test_conditions_are_over_the_fields_of_a_cable(cabled: str, where: list[str], count: int) -> None:
    conditions = [word for one in where for word in ("--where", one)]
    found = json.loads(fine(cabled, "cables", "--host", "cab", *conditions, "-o", "json"))
    assert len(found) == count


def test_what_cannot_be_asked_is_one_line(cabled: str) -> None:
    assert 'did you mean "verdict"?' in fails(cabled, Exit.BAD_INPUT, "cables", "-w", "verdic=crossed")
    assert "no host 'nobody'" in fails(cabled, Exit.NOT_FOUND, "cables", "--host", "nobody")
    none = run(cabled, "cables", "-w", "verdict=crossed")
    assert (none.returncode, none.stdout, none.stderr) == (0, "", "no cable fits the conditions\n")
