"""Ingest against the raw ceiling of the same rows, in one run: `python bench/ingest.py [--rows N] [--profile]`.

Raw is what the driver can do with ready-made rows: sqlite3 `executemany`, PostgreSQL binary COPY by `write_row`, in
transactions of the same size; beside it COPY of rows packed before the clock starts, which no program reaches. Ours is
from encoded MQTT payloads to committed rows: decode, admit, de-duplicate, series ids, the newest values, acks. A
PostgreSQL of its own is started when its binaries are there.
"""

import argparse
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import psycopg  # noqa: E402

from hwdb import migrate  # noqa: E402
from hwdb.db import open_engine  # noqa: E402
from hwdb.ingest import Incoming, Ingest  # noqa: E402
from hwdb.ingest_samples import COPY, insert_of, packed  # noqa: E402
from wire.codec import encode, raw  # noqa: E402
from wire.report import Birth, Fingerprint, Report, Run, Sample  # noqa: E402

HOSTS = 100
BATCH = 100  # reports in a transaction
Row = tuple[int, int, float]


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


def births() -> list[Incoming]:
    """One for every host."""
    made: list[Incoming] = []
    for number in range(HOSTS):
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


def batches(load: Load, turns: int, first: int) -> list[list[Incoming]]:
    """Reports of all hosts in turn."""
    reports = [report(load, number, first + turn) for turn in range(turns) for number in range(HOSTS)]
    return [reports[start : start + BATCH] for start in range(0, len(reports), BATCH)]


def raw_rows(load: Load, turns: int) -> list[list[Row]]:
    """The same samples, ready for the driver."""
    series, size = HOSTS * load.samples, BATCH * load.samples
    made = [(one % series + 1, 1_700_000_000_000 + one // series * 10_000, one * 1.5) for one in range(series * turns)]
    return [made[start : start + size] for start in range(0, len(made), size)]


def rate(rows: int, work: Callable[[], None]) -> float:
    """Rows per second."""
    start = time.perf_counter()
    work()
    return rows / (time.perf_counter() - start)


def raw_sqlite(path: Path, made: list[list[Row]]) -> None:
    """`executemany` with the settings of `hwdb.db`."""
    conn = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "cache_size=-65536"):
        conn.execute(f"PRAGMA {pragma}")
    for rows in made:
        conn.execute("BEGIN IMMEDIATE")
        conn.executemany(insert_of(1), rows)
        conn.execute("COMMIT")
    conn.close()


def raw_postgres(url: str, made: list[list[Row]]) -> None:
    """Binary COPY as psycopg documents it: `write_row` of Python values, as `executemany` takes them."""
    with psycopg.connect(url) as conn:
        for rows in made:
            with conn.cursor() as cursor, cursor.copy(COPY) as copy:
                copy.set_types(["int8", "int8", "float8"])
                for row in rows:
                    copy.write_row(row)
            conn.commit()


def raw_packed(url: str, made: list[bytes]) -> None:
    """Binary COPY of bytes that were packed before the clock started: what the server takes, and no work of ours."""
    with psycopg.connect(url) as conn:
        for data in made:
            with conn.cursor() as cursor, cursor.copy(COPY) as copy:
                copy.write(data)
            conn.commit()


def ours(url: str, load: Load, rounds: list[list[Incoming]], *, profile: bool = False) -> Callable[[], None]:
    """`Ingest.batch` over encoded payloads; hosts are born and series known, as in a fleet that runs."""
    engine = open_engine(url)
    ingest = Ingest(engine)
    ingest.batch(births())
    for first in batches(load, 1, 1):
        ingest.batch(first)

    def work() -> None:
        for one in rounds:
            ingest.batch(one)
        engine.dispose()

    return profiled(work) if profile else work


def profiled(work: Callable[[], None]) -> Callable[[], None]:
    """The same, with the 25 costliest functions printed."""
    import cProfile  # noqa: PLC0415 - only on demand
    import pstats  # noqa: PLC0415

    def run() -> None:
        profile = cProfile.Profile()
        profile.runcall(work)
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)

    return run


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


def emptied(url: str) -> None:
    """No sample in it, and nothing left to write of those before."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("TRUNCATE sample")
        conn.execute("CHECKPOINT")


def show(what: str, rows_per_s: float, *ceilings: float) -> None:
    """One line: rows per second and the share of each ceiling."""
    shares = "".join(f"{rows_per_s / ceiling:8.0%}" for ceiling in ceilings)
    print(f"{what:44} {rows_per_s:>10,.0f} rows/s{shares}")


def on_sqlite(load: Load, turns: int, *, profile: bool) -> None:
    """Raw and ours on fresh files."""
    made, rounds = raw_rows(load, turns), batches(load, turns, 2)
    rows = turns * HOSTS * load.samples
    with tempfile.TemporaryDirectory(prefix="rackhand-bench-") as folder:
        urls = [f"sqlite:///{folder}/{name}.db" for name in ("raw", "ours")]
        for url in urls:
            migrate.upgrade(url)
        ceiling = rate(rows, lambda: raw_sqlite(Path(folder) / "raw.db", made))
        show("SQLite, raw executemany", ceiling, ceiling)
        show("SQLite, ingest", rate(rows, ours(urls[1], load, rounds, profile=profile)), ceiling)


def on_postgres(load: Load, turns: int, *, profile: bool) -> None:
    """Raw, raw with nothing left to do, and ours on one server."""
    made, rounds = raw_rows(load, turns), batches(load, turns, 2)
    rows = turns * HOSTS * load.samples
    ready = [packed(([a for a, _, _ in one], [b for _, b, _ in one], [c for _, _, c in one])) for one in made]
    with postgres() as server:
        if server is None:
            print("PostgreSQL is not installed")
            return
        migrate.upgrade(server)
        ceiling = rate(rows, lambda: raw_postgres(server, made))
        emptied(server)
        top = rate(rows, lambda: raw_packed(server, ready))
        emptied(server)
        show("PostgreSQL, raw COPY binary (write_row)", ceiling, ceiling, top)
        show("PostgreSQL, raw COPY binary (packed before)", top, ceiling, top)
        show("PostgreSQL, ingest", rate(rows, ours(server, load, rounds, profile=profile)), ceiling, top)


def main() -> None:
    """Print rates and ratios for SQLite and, where it is installed, PostgreSQL."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    for load in LOADS:
        turns = max(1, given.rows // (HOSTS * load.samples))
        runs, size = len(load.collectors), len(report(load, 0, 2).payload)
        print(f"{load.name}: {load.samples} samples in {runs} runs a report ({size:,} bytes), {BATCH} reports a commit")
        on_sqlite(load, turns, profile=given.profile)
        on_postgres(load, turns, profile=given.profile)


if __name__ == "__main__":
    main()
