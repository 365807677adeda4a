"""Ingest against the raw ceiling of the same rows, in one run: `python bench/ingest.py [--rows N] [--url URL ...]`.

Raw is what the driver can do with ready-made rows: sqlite3 `executemany`, PostgreSQL binary COPY, in transactions of
the same size. Ours is from encoded MQTT payloads to committed rows: decode, admit, de-duplicate, series ids, the
newest values, acks. A PostgreSQL of its own is started when its binaries are there.
"""

import argparse
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import psycopg  # noqa: E402

from hwdb import migrate  # noqa: E402
from hwdb.db import open_engine  # noqa: E402
from hwdb.ingest import Incoming, Ingest  # noqa: E402
from hwdb.ingest_samples import COPY, COPY_HEAD, COPY_ROW, COPY_TAIL, INSERT  # noqa: E402
from wire.codec import encode, raw  # noqa: E402
from wire.report import Birth, Fingerprint, Report, Run, Sample  # noqa: E402

HOSTS = 100
COLLECTORS = (("nicstats", 40), ("softnet", 8), ("load", 12), ("hwmon", 40))
PER_REPORT = sum(samples for _, samples in COLLECTORS)
BATCH = 100  # reports in a transaction


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


def report(number: int, seq: int) -> Incoming:
    """What a host says every 10 s: 100 samples of four collectors."""
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
        for name, count in COLLECTORS
    ]
    told = Report(host_id=host_id, epoch="e", seq=seq, floor=max(1, seq - 3), start="s", runs=runs)
    return Incoming(f"rackhand/v1/bench/{host_id}/report", encode(told), at_ms)


def batches(rows: int, first: int) -> list[list[Incoming]]:
    """Reports of all hosts in turn, for that many samples."""
    per_round = HOSTS * PER_REPORT
    reports = [report(number, first + turn) for turn in range(rows // per_round) for number in range(HOSTS)]
    return [reports[start : start + BATCH] for start in range(0, len(reports), BATCH)]


def raw_rows(rows: int) -> list[list[tuple[int, int, float]]]:
    """The same samples, ready for the driver."""
    size = BATCH * PER_REPORT
    made = [
        (one % (HOSTS * PER_REPORT) + 1, 1_700_000_000_000 + one // (HOSTS * PER_REPORT) * 10_000, one * 1.5)
        for one in range(rows)
    ]
    return [made[start : start + size] for start in range(0, rows, size)]


def rate(rows: int, work: Callable[[], None]) -> float:
    """Rows per second."""
    start = time.perf_counter()
    work()
    return rows / (time.perf_counter() - start)


def raw_sqlite(path: Path, made: list[list[tuple[int, int, float]]]) -> None:
    """`executemany` with the settings of `hwdb.db`."""
    conn = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "cache_size=-65536"):
        conn.execute(f"PRAGMA {pragma}")
    for rows in made:
        conn.execute("BEGIN IMMEDIATE")
        conn.executemany(INSERT, rows)
        conn.execute("COMMIT")
    conn.close()


def raw_postgres(url: str, made: list[list[tuple[int, int, float]]], *, packed: bool) -> None:
    """Binary COPY: rows packed beforehand by us, or by psycopg's write_row."""
    data = [COPY_HEAD + b"".join(COPY_ROW.pack(3, 8, a, 8, b, 8, c) for a, b, c in rows) + COPY_TAIL for rows in made]
    with psycopg.connect(url) as conn:
        for number, rows in enumerate(made):
            with conn.cursor() as cursor, cursor.copy(COPY) as copy:
                if packed:
                    copy.write(data[number])
                else:
                    copy.set_types(["int8", "int8", "float8"])
                    for row in rows:
                        copy.write_row(row)
            conn.commit()


def ours(url: str, rounds: list[list[Incoming]], *, profile: bool = False) -> Callable[[], None]:
    """`Ingest.batch` over encoded payloads; hosts are born and series known, as in a fleet that runs."""
    engine = open_engine(url)
    ingest = Ingest(engine)
    ingest.batch(births())
    for first in batches(HOSTS * PER_REPORT, 1):
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
def postgres() -> Iterator[str | None]:
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


def show(what: str, rows_per_s: float, ceiling: float) -> None:
    """One line: rows per second and the share of the ceiling."""
    print(f"{what:44} {rows_per_s:>10,.0f} rows/s  {rows_per_s / ceiling:6.0%}")


def main() -> None:
    """Print rates and ratios for SQLite and, where it is installed, PostgreSQL."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    rows = given.rows // (HOSTS * PER_REPORT) * HOSTS * PER_REPORT
    rounds, made = batches(rows, 2), raw_rows(rows)
    print(f"{rows:,} samples, {PER_REPORT} in a report, {BATCH * PER_REPORT:,} in a transaction")
    with tempfile.TemporaryDirectory(prefix="rackhand-bench-") as folder:
        urls = [f"sqlite:///{folder}/{name}.db" for name in ("raw", "ours")]
        for url in urls:
            migrate.upgrade(url)
        ceiling = rate(rows, lambda: raw_sqlite(Path(folder) / "raw.db", made))
        show("SQLite, raw executemany", ceiling, ceiling)
        show("SQLite, ingest", rate(rows, ours(urls[1], rounds, profile=given.profile)), ceiling)
    with postgres() as server:
        if server is None:
            print("PostgreSQL is not installed")
            return
        migrate.upgrade(server)
        ceiling = rate(rows, lambda: raw_postgres(server, made, packed=False))
        show("PostgreSQL, raw COPY binary (write_row)", ceiling, ceiling)
        show(
            "PostgreSQL, raw COPY binary (packed before)",
            rate(rows, lambda: raw_postgres(server, made, packed=True)),
            ceiling,
        )
        with psycopg.connect(server) as conn:
            conn.execute("TRUNCATE sample")
        show("PostgreSQL, ingest", rate(rows, ours(server, rounds, profile=given.profile)), ceiling)


if __name__ == "__main__":
    main()
