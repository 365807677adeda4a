"""What the state directory says, read from outside while an agent may be running on it."""

import fcntl
import sqlite3
from pathlib import Path
from typing import IO

import msgspec

from agent import identity, show
from agent.config import Config
from agent.documents import Documents
from wire.policy import Outcome


class Running(msgspec.Struct):
    """What a running agent writes into agent.lock."""

    pid: int
    observe: bool


class Found(msgspec.Struct):
    """The state directory at a glance."""

    state_dir: str
    host_id: str = ""
    site: str = ""
    broker: str = ""
    pid: int = 0  # of the running agent, 0 when none runs
    observe: bool = True
    epoch: str = ""
    rows: int = 0  # in the spool
    bytes: int = 0
    generation: int = 0  # of the desired document, 0 without one
    settings: int = 0
    status: str = ""  # reported
    reason: str = ""
    outcomes: list[Outcome] = []

    @property
    def enforcing(self) -> bool:
        """A running agent would change back what is changed by hand."""
        return self.pid > 0 and not self.observe and self.settings > 0


def read(config: Config) -> Found:
    """Whatever is there; nothing is locked, changed or created."""
    state = config.state
    found = Found(str(state), site=config.site, broker=f"{config.broker.host}:{config.broker.port}")
    if running := agent(state):
        found.pid, found.observe = running.pid, running.observe
    else:
        found.observe = config.observe
    found.host_id = _host_id(state)
    found.epoch, found.rows, found.bytes = _spool(state / "spool.db")
    documents = Documents(state)
    if documents.desired:
        found.generation = documents.desired.generation
        found.settings = len(documents.desired.settings)
    if reported := documents.current:
        found.status, found.reason, found.outcomes = str(reported.status), reported.reason, reported.outcomes
    return found


def text(found: Found) -> str:
    """For people."""
    mode = "observes" if found.observe else "enforces"
    lines = [
        f"host      {found.host_id or 'no identity yet'}",
        f"agent     {f'runs, pid {found.pid}, {mode}' if found.pid else 'does not run'}",
        f"broker    {found.broker}, site {found.site}",
        f"spool     {found.rows} rows, {found.bytes} bytes wait in {found.state_dir}",
        f"desired   {f'generation {found.generation}, {found.settings} settings' if found.generation else 'nothing'}",
        f"reported  {' '.join(filter(None, (found.status, found.reason))) or 'nothing'}",
    ]
    return "\n".join([*lines, "", show.outcomes(found.outcomes)] if found.outcomes else lines)


def agent(state: Path) -> Running | None:
    """The agent that holds the state directory."""
    try:
        with (state / "agent.lock").open("rb") as file:
            return None if _free(file) else msgspec.json.decode(file.read(), type=Running)
    except (OSError, msgspec.DecodeError):
        return None


def _free(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _host_id(state: Path) -> str:
    try:
        return msgspec.json.decode((state / identity.FILE).read_bytes(), type=identity.Identity).host_id
    except (OSError, msgspec.DecodeError):
        return ""


def _spool(path: Path) -> tuple[str, int, int]:
    if not path.exists():
        return "", 0, 0
    try:
        database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=1.0)
        try:
            epoch = database.execute("SELECT epoch FROM meta").fetchone()[0]
            rows, size = database.execute("SELECT count(*), coalesce(sum(length(body)), 0) FROM rows").fetchone()
        finally:
            database.close()
    except sqlite3.DatabaseError:
        return "", 0, 0
    return epoch, rows, size
