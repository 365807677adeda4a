"""A database of each kind, and the words of a host to fill it with."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from sqlalchemy import Engine

from hwdb import migrate
from hwdb.db import open_engine, rows, writing
from hwdb.ingest import Incoming, Ingest
from wire.codec import encode, raw
from wire.report import Birth, Event, Fingerprint, Report, Run, Sample, State

KINDS = ("sqlite", "postgresql")
SETTINGS = ("listen_addresses=''", "fsync=off", "full_page_writes=off", "max_connections=40", "shared_buffers=16MB")


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        pytest.skip("PostgreSQL is not installed (Debian package postgresql)")
    return found[-1].parent


def _unprivileged(folder: Path) -> list[str]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    shutil.chown(folder, "postgres", "postgres")
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"]


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL server of our own on a unix socket; its URL up to the database's name is `...{name}...`."""
    binaries = _binaries()
    folder = Path(tempfile.mkdtemp(prefix="rackhand-pg-"))
    user = _unprivileged(folder)
    run = [*user, str(binaries / "initdb"), "-D", str(folder / "data"), "-A", "trust", "-N", "-U", "rackhand"]
    subprocess.run(run, check=True, stdout=subprocess.DEVNULL, cwd=folder)
    control = [*user, str(binaries / "pg_ctl"), "-D", str(folder / "data"), "-w"]
    options = " ".join(["-k", str(folder), *(f"-c {setting}" for setting in SETTINGS)])
    start = [*control, "-l", str(folder / "log"), "-o", options, "start"]
    subprocess.run(start, check=True, stdout=subprocess.DEVNULL, cwd=folder)
    try:
        server = f"postgresql://rackhand@/{{name}}?host={folder}"
        with psycopg.connect(server.format(name="postgres"), autocommit=True) as conn:
            conn.execute("CREATE DATABASE migrated")
        migrate.upgrade(server.format(name="migrated"))
        yield server
    finally:
        stop = [*control, "-m", "immediate", "stop"]
        subprocess.run(stop, check=True, stdout=subprocess.DEVNULL, cwd=folder)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "migrated.db"
    migrate.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(params=[KINDS[0], pytest.param(KINDS[1], marks=pytest.mark.postgres)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without tables, of each kind in turn."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/inventory.db"
        return
    yield from _database(request.getfixturevalue("postgres"), "template1")


@pytest.fixture(params=[KINDS[0], pytest.param(KINDS[1], marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database with the newest schema, of each kind in turn."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "inventory.db")
        yield f"sqlite:///{tmp_path}/inventory.db"
        return
    yield from _database(request.getfixturevalue("postgres"), "migrated")


def _database(server: str, template: str) -> Iterator[str]:
    name = f"t{os.urandom(6).hex()}"
    with psycopg.connect(server.format(name="postgres"), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        yield server.format(name=name)
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    opened = open_engine(url)
    yield opened
    opened.dispose()


@pytest.fixture
def ingest(engine: Engine) -> Ingest:
    return Ingest(engine)


@pytest.fixture
def query(engine: Engine) -> Callable[..., list[tuple[Any, ...]]]:
    """Rows of SQL with `:name` parameters."""

    def ask(sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        with writing(engine) as conn:
            return rows(conn, sql, parameters)

    return ask


class Speaker:
    """A host that talks: builds its messages, counts its rows."""

    def __init__(self, host_id: str = "h1", start: str = "s1", epoch: str = "e1", now_ms: int = 1_000_000) -> None:
        self.host_id, self.start, self.epoch = host_id, start, epoch
        self.fingerprint = Fingerprint(
            dmi_uuid=f"4c4c4544-{host_id}",
            product_serial=f"SN-{host_id}",
            machine_id=f"m-{host_id}",
            macs=[f"52:{host_id}"],
        )
        self.hostname = f"{host_id}.example"
        self.labels: dict[str, str] = {}
        self.seq = 0
        self.floor = 1
        self.now_ms = now_ms

    def say(self, channel: str, message: Any) -> Incoming:
        return Incoming(f"rackhand/v1/lab/{self.host_id}/{channel}", encode(message), self.now_ms)

    def birth(self, **changes: Any) -> Incoming:
        born = Birth(
            host_id=self.host_id,
            start=self.start,
            epoch=self.epoch,
            hostname=self.hostname,
            at_ms=self.now_ms,
            agent_version="1.0",
            fingerprint=self.fingerprint,
            labels=self.labels,
        )
        return self.say("birth", msgspec.structs.replace(born, **changes))

    def state(self, *, online: bool) -> Incoming:
        return self.say("state", State(host_id=self.host_id, start=self.start, online=online))

    def row(
        self, *, runs: Sequence[Run] = (), events: Sequence[Any] = (), seq: int = 0, channel: str = "report"
    ) -> Incoming:
        self.seq = seq or self.seq + 1
        told = Report(
            host_id=self.host_id,
            epoch=self.epoch,
            seq=self.seq,
            floor=min(self.floor, self.seq),
            start=self.start,
            runs=list(runs),
            events=[one if isinstance(one, msgspec.Raw) else raw(one) for one in events],
        )
        return self.say(channel, told)

    def run(self, collector: str, facts: Sequence[Any] | None = None, **samples: float) -> Run:
        return Run(
            collector=collector,
            at_ms=self.now_ms,
            facts=None if facts is None else [one if isinstance(one, msgspec.Raw) else raw(one) for one in facts],
            samples=[raw(Sample(f"{collector}.{name}", "k", value)) for name, value in samples.items()],
        )

    def facts(self, collector: str, *facts: Any, seq: int = 0) -> Incoming:
        self.now_ms += 1000
        return self.row(runs=[self.run(collector, facts)], seq=seq)

    def event(self, kind: str = "link.down", text: str = "eth0 is down", seq: int = 0) -> Incoming:
        return self.row(events=[Event(at_ms=self.now_ms, kind=kind, text=text)], seq=seq, channel="event")


@pytest.fixture
def speaker() -> type[Speaker]:
    return Speaker
