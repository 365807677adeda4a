"""Ingest against the raw ceiling of the same rows, in one run: `python bench/ingest.py [--rows N]`.

Raw is what the driver can do with ready-made rows: sqlite3 `executemany`, PostgreSQL binary COPY by `write_row`, in
transactions of the same size; beside it COPY of rows packed before the clock starts, which no program reaches. Ours is
from encoded MQTT payloads to committed rows: decode, admit, de-duplicate, series ids, the newest values, acks. They
take turns, batch by batch, and shares are medians of a turn's ratios: one after the other, the first paid for a cold
server and for whatever else ran on the box. A PostgreSQL of its own is started when its binaries are there.
"""

import argparse
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, TypeVar

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import psycopg  # noqa: E402

from hwdb import migrate  # noqa: E402
from hwdb.db import open_engine  # noqa: E402
from hwdb.ingest import Incoming, Ingest  # noqa: E402
from hwdb.ingest_samples import COPY, COPY_HEAD, COPY_TAIL, insert_of, packed  # noqa: E402
from wire.codec import encode, raw  # noqa: E402
from wire.report import Birth, Fingerprint, Report, Run, Sample  # noqa: E402

BATCHES = (
    100,
    1000,
)  # reports in a transaction, each of another host: a quiet fleet, and as many as ingest takes at once
Row = tuple[int, int, float]
T = TypeVar("T")
Work = Callable[[T], object]


class Contender(NamedTuple):
    """One way to store batches."""

    name: str
    work: Work[Any]
    batches: Sequence[Any]


@dataclass(frozen=True)
class Load:
    """What every host says every 10 s: (collector, how many samples)."""

    name: str
    collectors: tuple[tuple[str, int], ...]

    @property
    def samples(self) -> int:
        """In a report."""
        return sum(samples for _, samples in self.collectors)


LOADS = (
    Load("even", (("nicstats", 40), ("softnet", 8), ("load", 12), ("hwmon", 40))),
    Load("a server with two NICs", (("nicstats", 64), ("softnet", 24), ("load", 14), ("hwmon", 40), ("pci", 8))),
)


def births(hosts: int) -> list[Incoming]:
    """One for every host."""
    made: list[Incoming] = []
    for number in range(hosts):
        host_id = f"host-{number:05d}"
        born = Birth(
            host_id=host_id,
            start="s",
            epoch="e",
            hostname=host_id,
            at_ms=1,
            agent_version="0",
            fingerprint=Fingerprint(dmi_uuid=f"uuid-{number}"),
        )
        made.append(Incoming(f"rackhand/v1/bench/{host_id}/birth", encode(born), 1))
    return made


def report(load: Load, number: int, seq: int) -> Incoming:
    """One report as it travels."""
    host_id, at_ms = f"host-{number:05d}", 1_700_000_000_000 + seq * 10_000
    runs = [
        Run(
            collector=name,
            at_ms=at_ms,
            duration_ms=1.5,
            digest="0123456789abcdef",
            samples=[
                raw(Sample(f"{name}.counter_{one % 10}", f"52:54:00:12:34:{one:02x}", seq * 1000.5 + one))
                for one in range(count)
            ],
        )
        for name, count in load.collectors
    ]
    told = Report(host_id=host_id, epoch="e", seq=seq, floor=max(1, seq - 3), start="s", runs=runs)
    return Incoming(f"rackhand/v1/bench/{host_id}/report", encode(told), at_ms)


def batches(load: Load, hosts: int, turns: int, first: int) -> list[list[Incoming]]:
    """A report of every host, turn by turn."""
    return [[report(load, number, turn) for number in range(hosts)] for turn in range(first, first + turns)]


def raw_rows(load: Load, hosts: int, turns: int) -> list[list[Row]]:
    """The same samples, ready for the driver."""
    size = hosts * load.samples
    made = [(one % size + 1, 1_700_000_000_000 + one // size * 10_000, one * 1.5) for one in range(size * turns)]
    return [made[start : start + size] for start in range(0, len(made), size)]


@contextmanager
def raw_sqlite(path: Path) -> Generator[Work[list[Row]]]:
    """`executemany` with the settings of `hwdb.db`."""
    conn = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "cache_size=-65536"):
        conn.execute(f"PRAGMA {pragma}")

    def work(rows: list[Row]) -> None:
        conn.execute("BEGIN IMMEDIATE")
        conn.executemany(insert_of(1), rows)
        conn.execute("COMMIT")

    yield work
    conn.close()


@contextmanager
def raw_postgres(url: str) -> Generator[Work[list[Row]]]:
    """Binary COPY as psycopg documents it: `write_row` of Python values, as `executemany` takes them."""
    with psycopg.connect(url) as conn:

        def work(rows: list[Row]) -> None:
            with conn.cursor() as cursor, cursor.copy(COPY) as copy:
                copy.set_types(["int8", "int8", "float8"])
                for row in rows:
                    copy.write_row(row)
            conn.commit()

        yield work


@contextmanager
def raw_packed(url: str) -> Generator[Work[bytes]]:
    """Binary COPY of bytes that were packed before the clock started: what the server takes, and no work of ours."""
    with psycopg.connect(url) as conn:

        def work(data: bytes) -> None:
            with conn.cursor() as cursor, cursor.copy(COPY) as copy:
                copy.write(data)
            conn.commit()

        yield work


def ready_made(rows: list[Row]) -> bytes:
    """All that a COPY sends."""
    columns = [a for a, _, _ in rows], [b for _, b, _ in rows], [c for _, _, c in rows]
    return b"".join((COPY_HEAD, packed(columns), COPY_TAIL))


@contextmanager
def ours(url: str, load: Load, hosts: int) -> Generator[Work[list[Incoming]]]:
    """`Ingest.batch` over encoded payloads; hosts are born and series known, as in a fleet that runs."""
    engine = open_engine(url)
    ingest = Ingest(engine)
    ingest.batch(births(hosts))
    for first in batches(load, hosts, 1, 1):
        ingest.batch(first)
    yield ingest.batch
    engine.dispose()


@contextmanager
def postgres() -> Generator[str | None]:
    """A server on a unix socket in a temporary folder, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="rackhand-bench-"))
    user: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "cwd": folder}
    subprocess.run(
        [*user, f"{found[-1]}/initdb", "-D", f"{folder}/d", "-A", "trust", "-U", "rackhand"], check=True, **quiet
    )
    control = [*user, f"{found[-1]}/pg_ctl", "-w", "-D", f"{folder}/d"]
    options = f"-k {folder} -c listen_addresses='' -c max_wal_size=4GB -c shared_buffers=256MB"
    subprocess.run([*control, "-l", f"{folder}/log", "-o", options, "start"], check=True, **quiet)
    try:
        yield f"postgresql://rackhand@/postgres?host={folder}"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, **quiet)
        shutil.rmtree(folder)


def seconds(contenders: list[Contender]) -> list[list[float]]:
    """How long each took for each of its batches; they take turns, so that all see the same minute of this box."""
    taken: list[list[float]] = [[] for _ in contenders]
    for turn in range(len(contenders[0].batches)):
        for contender, times in zip(contenders, taken, strict=True):
            start = time.perf_counter()
            contender.work(contender.batches[turn])
            times.append(time.perf_counter() - start)
    return taken


def show(contenders: list[Contender], rows: int) -> None:
    """A line each: median rows per second, and the median share of those above it, turn by turn."""
    taken = seconds(contenders)
    for at, (contender, times) in enumerate(zip(contenders, taken, strict=True)):
        shares = [median(a / b for a, b in zip(above, times, strict=True)) for above in taken[:at]]
        told = "".join(f"{share:8.0%}" for share in shares)
        print(f"{contender.name:44} {rows / median(times):>10,.0f} rows/s{told}", flush=True)


def on_sqlite(load: Load, hosts: int, turns: int) -> None:
    """Raw and ours, each into a file of its own."""
    with tempfile.TemporaryDirectory(prefix="rackhand-bench-") as folder:
        for name in ("raw", "ours"):
            migrate.upgrade(f"sqlite:///{folder}/{name}.db")
        with raw_sqlite(Path(folder) / "raw.db") as raw, ours(f"sqlite:///{folder}/ours.db", load, hosts) as ingest:
            contenders = [
                Contender("SQLite, raw executemany", raw, raw_rows(load, hosts, turns)),
                Contender("SQLite, ingest", ingest, batches(load, hosts, turns, 2)),
            ]
            show(contenders, hosts * load.samples)


def on_postgres(load: Load, hosts: int, turns: int) -> None:
    """Raw, raw with nothing left to do, and ours on one server."""
    with postgres() as server:
        if server is None:
            print("PostgreSQL is not installed")
            return
        migrate.upgrade(server)
        with raw_postgres(server) as raw, raw_packed(server) as ready, ours(server, load, hosts) as ingest:
            made = raw_rows(load, hosts, turns)
            contenders = [
                Contender("PostgreSQL, raw COPY binary (packed before)", ready, [ready_made(one) for one in made]),
                Contender("PostgreSQL, raw COPY binary (write_row)", raw, made),
                Contender("PostgreSQL, ingest", ingest, batches(load, hosts, turns, 2)),
            ]
            show(contenders, hosts * load.samples)


def main() -> None:
    """Print rates and ratios for SQLite and, where it is installed, PostgreSQL."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=400_000)
    given = parser.parse_args()
    for load in LOADS:
        for hosts in BATCHES:
            turns = max(3, given.rows // (hosts * load.samples))
            runs, size = len(load.collectors), len(report(load, 0, 2).payload)
            samples = f"{load.samples} samples in {runs} runs a report ({size:,} bytes)"
            print(f"{load.name}: {samples}, {hosts} reports a commit")
            on_sqlite(load, hosts, turns)
            on_postgres(load, hosts, turns)


if __name__ == "__main__":
    main()
