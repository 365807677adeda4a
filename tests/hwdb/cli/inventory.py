"""An inventory with a few hosts in it, and `rackhand` run over it as a process."""

import csv
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from hwdb import migrate
from hwdb.cli.failure import Exit
from hwdb.db import open_engine
from hwdb.ingest import Incoming, Ingest
from wire.codec import encode, raw
from wire.facts import Cpu, Dmi, Ethtool, Irq, Memory, Nic, Queue
from wire.report import Birth, Event, Fingerprint, Report, Run, State
from wire.topics import Channel, topic

ENTRY = [sys.executable, "-c", "from hwdb.cli.main import main; main()"]
HOSTILE = "\x1b]0;owned\x07=cmd|'/C calc'!A0\x1b[2J\u202e"
FORMS = ("table", "wide", "json", "yaml", "csv")
POLICY = """\
name: edge
match: [labels.role=edge]
knobs: {rings: {rx: max}}
"""


def run(url: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "RACKHAND_DB": url, "COLUMNS": "100"}
    return subprocess.run(
        [*ENTRY, *arguments], input=stdin, capture_output=True, text=True, env=environment, check=False, timeout=120
    )


def fine(url: str, *arguments: str) -> str:
    done = run(url, *arguments)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def fails(url: str, code: Exit, *arguments: str) -> str:
    """The one line on stderr."""
    done = run(url, *arguments)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def host_messages(host_id: str, hostname: str, role: str, serial: str, start: str = "s1") -> list[Incoming]:
    mac = f"02:00:00:00:00:{host_id[-2:]}"
    nic = Nic(
        key=mac, ifname="eth0", ifindex=2, type="physical", mac=mac, up=True, carrier=True, driver="ice",
        speed_mbps=10000, max_speed_mbps=25000, rx_queues=2, tx_queues=2, numa_node=1, firmware=HOSTILE,
    )  # fmt: skip
    facts = [
        Dmi(hostname=hostname, vendor="Dell Inc.", product="R760", kernel="6.1.0"),
        Cpu(model="Xeon", packages=2, cores=4, threads=8, online="0-7"),
        Memory(total_kb=16 * 1024**2),
        nic,
        Nic(key="lo", ifname="lo", ifindex=1, type="loopback"),
        Ethtool(key=mac, ifname="eth0", ifindex=2, rings={"rx": 256, "rx_max": 4096}, channels={"combined": 2}),
        Irq(key=mac, ifname="eth0", source="netdev-genl", queues=[Queue(irq=45, rx=[0], tx=[0], cpus="0-3")]),
    ]
    events = [Event(at_ms=1_700_000_000_000 + number, kind="link.down", text=HOSTILE) for number in range(3)]
    born = Birth(
        host_id=host_id, start=start, epoch="e1", hostname=hostname, at_ms=1_700_000_000_000, agent_version="0.1.0",
        fingerprint=Fingerprint(machine_id=host_id, product_serial=serial), labels={"role": role},
    )  # fmt: skip
    report = Report(
        host_id=host_id, epoch="e1", seq=1, floor=1, start=start, events=[raw(event) for event in events],
        runs=[Run(collector="nic", at_ms=1_700_000_000_000, digest="d", facts=[raw(fact) for fact in facts])],
    )  # fmt: skip
    said = (
        (Channel.BIRTH, born),
        (Channel.STATE, State(host_id=host_id, start=start, online=True)),
        (Channel.REPORT, report),
    )
    now = time.time_ns() // 1_000_000
    return [Incoming(topic("lab", host_id, channel), encode(message), now) for channel, message in said]


def filled(path: Path) -> str:
    url = f"sqlite:///{path}"
    migrate.upgrade(url)
    fill(url)
    return url


def fill(url: str) -> None:
    engine = open_engine(url)
    messages = host_messages("host-01", "alpha", "edge", "SN-0001") + host_messages(
        "host-02", "beta", "core", "SN-0002"
    )
    messages += host_messages("host-01", "alpha", "edge", "SN-9999", "s2")[:1]  # a clone
    result = Ingest(engine).batch(messages)
    assert (result.dead, len(result.conflicts)) == (0, 1)
    engine.dispose()


def parsed(form: str, text: str) -> list[Any]:
    if form == "json":
        return json.loads(text) if text.startswith("[") else [json.loads(text)]
    if form == "yaml":
        found = yaml.safe_load(text)
        return found if isinstance(found, list) else [found]
    if form == "csv":
        return list(csv.DictReader(io.StringIO(text)))
    return text.splitlines()[1:]
