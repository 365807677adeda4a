"""Where the lab keeps things: what was built once, and what runs."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

from hardware_lab.failure import LabError

OURS = Path(__file__).parent


def cache() -> Path:
    """What is slow to build: RACKHAND_LAB_CACHE, else ~/.cache/rackhand/lab; made anew whenever it is missing."""
    named = os.environ.get("RACKHAND_LAB_CACHE")
    folder = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rackhand/lab"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def runs() -> Path:
    """The labs that run: RACKHAND_LAB_RUN, else a folder of this user's in /tmp (socket paths must stay short)."""
    folder = Path(os.environ.get("RACKHAND_LAB_RUN") or f"/tmp/rackhand-lab-{os.geteuid()}")  # noqa: S108
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        raise LabError(f"{folder} belongs to another user: remove it, or set RACKHAND_LAB_RUN")
    return folder


def digest(parts: Iterable[bytes | str]) -> str:
    """A short name for a set of inputs."""
    whole = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        whole.update(len(content).to_bytes(8, "big") + content)
    return whole.hexdigest()[:16]


def content(*folders: Path) -> list[bytes]:
    """Names and bytes of all files below, in order: an input of `digest`."""
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file() and _counts(path))
    return [part for path in files for part in (path.name.encode(), path.read_bytes())]


def _counts(path: Path) -> bool:
    return "__pycache__" not in path.parts


def keep_newest(folder: Path, count: int = 3) -> None:
    """Of what was built into sub-folders of this one, only the last remain: each is over half a gigabyte."""
    built = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for old in built[:-count]:
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def only_one(path: Path) -> Generator[None]:
    """Hold a lock file; another process that builds the same waits for it."""
    held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)
