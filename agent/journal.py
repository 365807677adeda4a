"""The journal of a transaction: what was there before, on disk before the first write.

One append-only file per transaction, `<state>/journal/<number>-<random>.journal`. A record is one line, the CRC-32 of
its JSON in hex and the JSON; it is written and fsynced before what it announces is done. A last line without its end
was torn before its write and is ignored; anything else that does not check is corruption and is never guessed from.
Space for the closing records is reserved with each stage, so a disk that fills up later cannot leave a journal open.
Whoever appends holds the file's flock. Times are CLOCK_BOOTTIME: jumps of the wall clock do not matter.
"""

import enum
import fcntl
import math
import os
import secrets
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import structs

from wire.facts import Fact
from wire.policy import Change, Outcome

FOLDER = "journal"
SUFFIX = ".journal"
LOCK = "transaction.lock"
KEEP = 20  # closed journals
MAX_BYTES = 64 << 20
_RESERVE = 64 << 10
_LOOK_AGAIN_S = (0.001, 0.01, 0.1, 0.5)  # pauses of a reader without the lock


class JournalError(Exception):
    """The journal could not be written (nothing may be applied) or read; the message is one line."""


class CorruptError(JournalError):
    """A record of the journal does not check; it is kept aside, never guessed from."""


class BusyError(JournalError):
    """Another transaction is at work; a retry may help."""


class State(enum.StrEnum):
    """Where a transaction stands."""

    OPEN = "open"
    COMMITTED = "committed"
    REVERTING = "reverting"  # committed once, being rolled back on request
    REVERTED = "reverted"
    FAILED = "failed"  # playing back left something as it should not be; `outcomes` says what
    VOID = "void"  # the machine has booted since: its kernel settings are gone


UNFINISHED = (State.OPEN, State.REVERTING)


class Opened(msgspec.Struct, kw_only=True, frozen=True, tag="opened", tag_field="record"):
    """The first record: whose transaction this is, and until when it may stay open."""

    tx: str
    boot_id: str  # /proc/sys/kernel/random/boot_id
    netns: str  # /proc/self/ns/net: "net:[4026531840]"
    pid: int
    started: int  # clock ticks since boot, /proc/<pid>/stat field 22: tells a process from a later one with its pid
    deadline_ns: int  # CLOCK_BOOTTIME
    host_id: str = ""
    start: str = ""
    generation: int = 0
    hash: str = ""


class Staged(msgspec.Struct, kw_only=True, frozen=True, tag="staged", tag_field="record"):
    """Changes that are about to be made, in order, and the facts of their NICs as they were."""

    changes: list[Change]
    before: list[Fact] = []  # Nic, Queues and Irq
    reshaped: list[str] = []  # keys of NICs whose queues the changes recreate


class Deadline(msgspec.Struct, frozen=True, tag="deadline", tag_field="record"):
    """The time until which the transaction may stay open, anew."""

    at_ns: int


class Undone(msgspec.Struct, frozen=True, tag="undone", tag_field="record"):
    """The stage of this index is as it was before; it must not be played back again (IRQ numbers are reused)."""

    stage: int


class Marked(msgspec.Struct, kw_only=True, frozen=True, tag="marked", tag_field="record"):
    """A step from state to state."""

    state: State
    reason: str = ""
    outcomes: list[Outcome] = []  # without their changes: those are in the stages


Record = Opened | Staged | Deadline | Undone | Marked
_RECORD: "msgspec.json.Decoder[Record]" = msgspec.json.Decoder(Record)


class Story(msgspec.Struct, kw_only=True):
    """What a journal's records say together."""

    opened: Opened
    deadline_ns: int
    stages: list[Staged] = []
    undone: set[int] = set()
    state: State = State.OPEN
    reason: str = ""
    outcomes: list[Outcome] = []

    def add(self, record: Record) -> None:
        """Take the next record; raises CorruptError for a second beginning."""
        match record:
            case Staged():
                self.stages.append(record)
            case Deadline():
                self.deadline_ns = record.at_ns
            case Undone():
                self.undone.add(record.stage)
            case Marked():
                self.state, self.reason = record.state, record.reason
                self.outcomes = [structs.replace(one, changes=self._changes(one)) for one in record.outcomes]
            case Opened():
                raise CorruptError(f"transaction {record.tx} begins twice")

    def _changes(self, outcome: Outcome) -> list[Change]:
        key = (outcome.knob, outcome.nic)
        return [change for stage in self.stages for change in stage.changes if (change.knob, change.nic) == key]


def now_ns() -> int:
    """CLOCK_BOOTTIME: counts through suspend, and no clock setting moves it."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Of the running kernel."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def netns() -> str:
    """Of this process."""
    return str(Path("/proc/self/ns/net").readlink())


def started(pid: int) -> int | None:
    """When process `pid` started, in clock ticks since boot; None when there is none (a zombie is none)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def encode(record: Record) -> bytes:
    """The line of one record."""
    body = msgspec.json.encode(record)
    return b"%08x %s\n" % (zlib.crc32(body), body)


def parse(data: bytes) -> tuple[Story | None, int]:
    """The story and the length of the whole records; None before the first. Raises CorruptError."""
    *lines, torn = data.rstrip(b"\0").split(b"\n")
    if not lines:
        return None, 0
    records = [_checked(number, line) for number, line in enumerate(lines, 1)]
    first = records[0]
    if not isinstance(first, Opened):
        raise CorruptError("record 1 does not begin a transaction")
    story = Story(opened=first, deadline_ns=first.deadline_ns)
    for record in records[1:]:
        story.add(record)
    return story, len(data.rstrip(b"\0")) - len(torn)


def _checked(number: int, line: bytes) -> Record:
    crc, _, body = line.partition(b" ")
    if crc != b"%08x" % zlib.crc32(body):
        raise CorruptError(f"record {number} does not match its checksum")
    try:
        return _RECORD.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptError(f"record {number}: {error}") from None


class Journal:
    """One journal open for appending, with its flock held until `close`."""

    def __init__(self, path: Path, handle: int, patience_s: float = math.inf) -> None:
        self.path = path
        self._handle = handle
        _take(handle, path, patience_s)
        try:
            story, self._size = parse(_read(handle, path))
        except CorruptError:
            os.close(handle)
            raise
        self._story = story

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the lock and the descriptor back."""
        os.close(self._handle)

    @property
    def story(self) -> Story:
        """What the records say so far; raises JournalError before the first."""
        if self._story is None:
            raise JournalError(f"{self.path.name}: nothing is recorded")
        return self._story

    @property
    def blank(self) -> bool:
        """True when not even the first record is whole: then nothing was written to the machine."""
        return self._story is None

    def append(self, record: Record) -> None:
        """Make one record durable; raises JournalError, and then what it announces must not be done."""
        line = encode(record)
        try:
            self._put(line, 0 if isinstance(record, Marked) else len(line) + _RESERVE)
        except OSError as error:
            raise JournalError(f"{self.path}: {error.strerror}") from None
        if self._story is None:
            self._story, _ = parse(line)
        else:
            self._story.add(record)

    def mark(self, state: State, reason: str = "", outcomes: Sequence[Outcome] = ()) -> None:
        """Record a step from state to state."""
        bare = [structs.replace(outcome, changes=[]) for outcome in outcomes]
        self.append(Marked(state=state, reason=reason, outcomes=bare))

    def _put(self, line: bytes, reserve: int) -> None:
        if reserve:
            os.posix_fallocate(self._handle, self._size, len(line) + reserve)
        done = 0
        while done < len(line):
            done += os.pwrite(self._handle, line[done:], self._size + done)
        if not reserve:
            os.ftruncate(self._handle, self._size + len(line))
        os.fsync(self._handle)
        self._size += len(line)


def _take(handle: int, path: Path, patience_s: float) -> None:
    """The file's lock; raises BusyError when it did not come free, and closes the file."""
    until = time.monotonic() + patience_s
    flags = fcntl.LOCK_EX if math.isinf(patience_s) else fcntl.LOCK_EX | fcntl.LOCK_NB
    while True:
        try:
            return fcntl.flock(handle, flags)
        except BlockingIOError:
            if time.monotonic() >= until:
                os.close(handle)
                raise BusyError(f"{path.name}: in use, by a dead-man or by a write that hangs in the kernel") from None
            time.sleep(_LOOK_AGAIN_S[2])


def _read(handle: int, path: Path) -> bytes:
    size = os.fstat(handle).st_size
    if size > MAX_BYTES:
        raise CorruptError(f"{path.name}: {size} bytes are over the limit of {MAX_BYTES}")
    data = bytearray()
    while chunk := os.pread(handle, 1 << 20, len(data)):
        data += chunk
    return bytes(data)


def create(state: Path, opened: Opened) -> Journal:
    """Begin a journal of this name, durably; raises JournalError (a full disk: nothing may be applied)."""
    folder = state / FOLDER
    path = folder / (opened.tx + SUFFIX)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise JournalError(f"{path}: {error.strerror}") from None
    journal = Journal(path, handle)
    try:
        journal.append(opened)
        _sync_folder(folder)
        _sync_folder(state)
    except JournalError:
        journal.close()
        path.unlink()
        raise
    return journal


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        raise JournalError(f"{folder}: {error.strerror}") from None
    finally:
        os.close(handle)


def opened(state: Path, seconds: float, **whose: str | int) -> Opened:
    """The first record for a transaction of this process that may stay open for `seconds`."""
    pid = os.getpid()
    return Opened(
        tx=_next(state),
        boot_id=boot_id(),
        netns=netns(),
        pid=pid,
        started=started(pid) or 0,
        deadline_ns=now_ns() + int(seconds * 1e9),
        **whose,  # type: ignore[arg-type]
    )


def lock(state: Path) -> int:
    """The state directory's lock, for one transaction at a time, until its descriptor is closed; raises BusyError."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(state / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise BusyError(f"another transaction is at work in {state}") from None
    return handle


def _next(state: Path) -> str:
    numbers = [int(path.name[:8]) for path in _files(state, "*") if path.name[:8].isdigit()]
    return f"{max(numbers, default=0) + 1:08d}-{secrets.token_hex(3)}"


def _files(state: Path, pattern: str) -> list[Path]:
    return sorted((state / FOLDER).glob(pattern))


def paths(state: Path) -> list[Path]:
    """The journals of a state directory, oldest first."""
    return _files(state, "*" + SUFFIX)


def resume(path: Path, patience_s: float = math.inf) -> Journal:
    """The journal for appending; raises CorruptError, JournalError, BusyError when others hold it for `patience_s`."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise JournalError(f"{path}: {error.strerror}") from None
    return Journal(path, handle, patience_s)


def read(path: Path) -> Story | None:
    """What the journal says at this moment, without its lock; None when not even the first record is whole.

    A record that is being written may be seen with its end before its beginning: corruption is what stays so.
    """
    for pause_s in _LOOK_AGAIN_S:
        try:
            return _look(path)
        except CorruptError:
            time.sleep(pause_s)
    return _look(path)


def _look(path: Path) -> Story | None:
    try:
        return parse(path.read_bytes())[0]
    except OSError as error:
        raise JournalError(f"{path}: {error.strerror}") from None


def set_aside(path: Path) -> Path:
    """Rename a corrupt journal so that it stays for people and stands in nobody's way."""
    aside = path.with_suffix(f".corrupt-{secrets.token_hex(3)}")
    path.rename(aside)
    return aside


def prune(state: Path, keep: int = KEEP) -> None:
    """Remove the oldest closed journals over `keep`; unfinished and corrupt ones stay."""
    for path in paths(state)[: -keep or None]:
        try:
            story = read(path)
        except JournalError:
            continue
        if story is None or story.state not in UNFINISHED:
            path.unlink(missing_ok=True)
