"""`rackhand hosts` over 10,000 hosts, whole process, beside the interpreter's start and a bare sqlite3 scan."""

import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from hwdb import migrate
from hwdb.db import open_engine
from hwdb.ingest import Incoming, Ingest
from wire.codec import encode, raw
from wire.facts import Cpu, Dmi, Memory, Nic
from wire.report import Birth, Fingerprint, Report, Run
from wire.topics import Channel, topic

SCAN = """
import sqlite3, sys
found = sqlite3.connect(sys.argv[1]).execute("SELECT * FROM host ORDER BY hostname")
sys.stdout.write("\\n".join("\\t".join(map(str, row)) for row in found))
"""
HOSTS, BATCH, RUNS = 10_000, 200, 7
NOW_MS = 1_795_252_800_000


def messages(number: int) -> Iterator[Incoming]:
    """A host's birth and its first report: one system, CPUs, memory, two NICs."""
    host = str(uuid.UUID(int=number + 1))
    macs = [f"b4:96:91:{number >> 8:02x}:{number & 255:02x}:{port:02x}" for port in range(2)]
    birth = Birth(
        host_id=host,
        start=f"s{number}",
        epoch="e1",
        hostname=f"web{number:05d}",
        at_ms=NOW_MS,
        agent_version="0.1.0",
        fingerprint=Fingerprint(dmi_uuid=host, product_serial=f"SN{number:06d}", macs=macs),
        labels={"role": "edge", "rack": f"r{number // 40}"},
    )
    facts = [
        Dmi(vendor="Dell Inc.", product="PowerEdge R750", serial=f"SN{number:06d}"),
        Cpu(model="Intel(R) Xeon(R) Gold 6330 CPU @ 2.00GHz", packages=2, cores=56, threads=112),
        Memory(total_kb=527_000_000),
        *(Nic(key=mac, ifname=f"ens{at}", ifindex=at + 2, type="physical", mac=mac) for at, mac in enumerate(macs)),
    ]
    run = Run(collector="nic", at_ms=NOW_MS, digest="d", facts=[raw(fact) for fact in facts])
    report = Report(host_id=host, epoch="e1", seq=1, floor=1, start=birth.start, runs=[run])
    for channel, message in ((Channel.BIRTH, birth), (Channel.REPORT, report)):
        yield Incoming(topic("bench", host, channel), encode(message), NOW_MS)


def fill(url: str) -> float:
    """Put the hosts in; the seconds it took."""
    migrate.upgrade(url)
    engine = open_engine(url)
    ingest = Ingest(engine)
    started = time.perf_counter()
    for first in range(0, HOSTS, BATCH):
        ingest.batch([one for number in range(first, first + BATCH) for one in messages(number)])
    engine.dispose()
    return time.perf_counter() - started


def median_ms(argv: Sequence[str]) -> float:
    """The whole process, the output into a pipe, median of the runs after a warm-up."""
    times = []
    for _ in range(RUNS + 1):
        started = time.perf_counter()
        subprocess.run(argv, check=True, stdout=subprocess.PIPE)
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times[1:])


def main() -> None:
    """Print the medians and the ratios."""
    with tempfile.TemporaryDirectory(prefix="rackhand-bench-") as folder:
        path = Path(folder) / "inventory.db"
        url = f"sqlite:///{path}"
        print(f"{HOSTS} hosts ingested in {fill(url):.1f} s")
        bare = median_ms([sys.executable, "-c", "pass"])
        raw_scan = median_ms([sys.executable, "-c", SCAN, str(path)])
        print(f"{'python -c pass':32}{bare:8.0f} ms")
        print(f"{'bare sqlite3 scan and print':32}{raw_scan:8.0f} ms")
        rackhand = str(Path(sys.executable).parent / "rackhand")
        for form in ("table", "wide", "json", "csv"):
            took = median_ms([rackhand, "hosts", "--db", url, "-o", form])
            print(f"{'rackhand hosts -o ' + form:32}{took:8.0f} ms  {took / raw_scan:5.1f} x the bare scan")
    print("aim: a table under 300 ms")


if __name__ == "__main__":
    main()
