"""The desired document and what was reported of it, as this host keeps them: desired.json and reported.json."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import structs

from agent import statefile
from agent.outcomes import key, worst
from wire.codec import DecodeError, decode, encode
from wire.policy import DESIRED, REPORTED, Desired, Outcome, Reported, content_hash

T = TypeVar("T", Desired, Reported)


class RefusedError(Exception):
    """The document is not acted on; the message says why."""


class Documents:
    """The newest documents; a damaged desired.json is as none (the inventory answers every birth with it)."""

    def __init__(self, state: Path) -> None:
        self._desired_file = state / "desired.json"
        self._reported_file = state / "reported.json"
        self._lock_file = state / "reported.lock"
        self.desired = _load(DESIRED, self._desired_file)
        self.reported = _load(REPORTED, self._reported_file)
        self._stamp = _stamp(self._reported_file)

    @property
    def generation(self) -> int:
        """The newest that was acted on; 0 for none."""
        return self.reported.generation if self.reported else 0

    @property
    def current(self) -> Reported | None:
        """What was reported of this very document, None when nothing was yet."""
        if self.desired is None or self.reported is None:
            return None
        same = (self.reported.generation, self.reported.hash) == (self.desired.generation, self.desired.hash)
        return self.reported if same else None

    def accept(self, desired: Desired) -> bool:
        """Keep a newer document on disk; False when it is the one that is known. Raises RefusedError, OSError."""
        if content_hash(desired.settings) != desired.hash:
            raise RefusedError(f"generation {desired.generation}: its hash is not that of its settings")
        newest = max(self.desired.generation if self.desired else 0, self.generation)
        if desired.generation < newest:
            raise RefusedError(f"generation {desired.generation} is older than {newest}")
        if self.desired is not None and desired.generation == self.desired.generation:
            if desired.hash != self.desired.hash:
                raise RefusedError(f"generation {desired.generation} is known with another content")
            return False
        statefile.replace(self._desired_file, encode(desired))
        self.desired = desired
        return True

    def report(self, reported: Reported) -> bool:
        """Keep what is reported; False, and nothing is kept, when somebody else on this host did meanwhile.

        Raises OSError.
        """
        with statefile.alone(self._lock_file):
            if _stamp(self._reported_file) != self._stamp:
                return False
            self._keep(reported)
        return True

    def amend(self, change: Callable[["Documents"], Reported | None]) -> Reported | None:
        """Keep what `change` makes of the newest that is reported, while nobody else reports; raises OSError."""
        with statefile.alone(self._lock_file):
            self.refresh()
            made = change(self)
            if made is not None:
                self._keep(made)
        return made

    def _keep(self, reported: Reported) -> None:
        self.reported = reported
        statefile.replace(self._reported_file, encode(reported))
        self._stamp = _stamp(self._reported_file)

    def refresh(self) -> bool:
        """Take over what `rackhand-agent rollback` reported meanwhile; True when there is something."""
        stamp = _stamp(self._reported_file)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        self.reported = _load(REPORTED, self._reported_file)
        return self.reported is not None


def undone(documents: Documents, outcomes: Sequence[Outcome], tx: str, reason: str = "rolled back") -> Reported | None:
    """Keep that settings of the present document were undone, so that nobody tries them again; None without one."""

    def merged(newest: Documents) -> Reported | None:
        earlier = newest.current
        if earlier is None or not outcomes:
            return None
        results = list({key(one): one for one in [*earlier.outcomes, *outcomes]}.values())
        at_ms = time.time_ns() // 1_000_000
        return structs.replace(earlier, status=worst(results), at_ms=at_ms, tx=tx, reason=reason, outcomes=results)

    return documents.amend(merged)


def _stamp(path: Path) -> tuple[int, int]:
    """Changes when the file is replaced."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_ino, found.st_mtime_ns


def _load(decoder: "msgspec.json.Decoder[T]", path: Path) -> T | None:
    try:
        return decode(decoder, path.read_bytes())
    except (OSError, DecodeError):
        return None
