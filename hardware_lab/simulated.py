"""One simulated host, without its connection: what it says, the rows it holds, and what an ack makes of them.

As the agent: rows are numbered from 1 in an epoch of their own, kept until an ack covers them and sent again when none
comes. A row is kept as the recipe it is made from, so a fleet that waits for its inventory costs next to no memory.
"""

import random
from collections import deque
from typing import NamedTuple
from uuid import UUID, uuid5

from hardware_lab import replay
from hardware_lab.replay import Person, Portrait
from wire.codec import encode, raw
from wire.policy import Desired, Reported, ReportedStatus
from wire.report import Ack, Birth, Event, Report, Severity, State
from wire.topics import Channel

WINDOW = 8  # rows on their way
HELD = 60  # rows kept
RESEND_S = 30.0  # doubles up to eight times

EVERYTHING = 0.0  # in the place of an interval: all collectors, with their facts
EVENT = -1.0  # in the place of an interval: something happened to a NIC


class Row(NamedTuple):
    """A report that is not yet acknowledged."""

    seq: int
    what: float  # the interval (seconds) whose collectors it holds, EVERYTHING or EVENT
    at_ms: int


class Host:
    """A host and its spool; `run` (a UUID) names this run of the fleet, `begun_ms` is when it began."""

    __slots__ = (
        "_begun_ms",
        "_flying",
        "_rows",
        "_since_s",
        "_tries",
        "epoch",
        "generation",
        "portrait",
        "seq",
        "start",
        "who",
    )

    def __init__(self, portrait: Portrait, who: Person, run: UUID, begun_ms: int) -> None:
        self.portrait = portrait
        self.who = who
        self.start = uuid5(run, f"start/{who.number}").hex
        self.epoch = uuid5(run, f"epoch/{who.number}").hex
        self.seq = 0  # of the newest row
        self.generation = 0  # of the last desired document
        self._begun_ms = begun_ms
        self._rows: deque[Row] = deque()
        self._flying = 0  # how many of them, from the oldest on, are on their way
        self._since_s = 0.0  # when the oldest of those was sent, or an ack came after it
        self._tries = 0

    @property
    def held(self) -> int:
        """Rows that are not yet acknowledged."""
        return len(self._rows)

    def add(self, what: float, at_ms: int) -> bool:
        """A new row; True when the oldest had to go for it, never to be sent again."""
        self.seq += 1
        self._rows.append(Row(self.seq, what, at_ms))
        if len(self._rows) <= HELD:
            return False
        self._rows.popleft()
        self._flying = max(0, self._flying - 1)
        return True

    def next_row(self, now_s: float) -> Row | None:
        """The row to send now, counted as sent; None while the window is full or nothing waits."""
        if self._flying >= min(WINDOW, len(self._rows)):
            return None
        if not self._flying:
            self._since_s = now_s
        self._flying += 1
        return self._rows[self._flying - 1]

    def connected(self) -> None:
        """A new connection: nothing is on its way."""
        self._flying = 0

    def overdue(self, now_s: float) -> int:
        """How many rows go again because no ack came for them for too long; 0 for none."""
        if not self._flying or now_s - self._since_s < RESEND_S * float(1 << self._tries):
            return 0
        again, self._flying = self._flying, 0
        self._tries = min(self._tries + 1, 3)
        return again

    def acked(self, ack: Ack, now_s: float) -> int:
        """Forget what this ack covers; how many rows that were."""
        if ack.epoch != self.epoch or ack.start not in ("", self.start):
            return 0
        before = len(self._rows)
        while self._rows and self._rows[0].seq <= ack.seq:
            self._rows.popleft()
        gone = before - len(self._rows)
        self._flying = max(0, self._flying - gone)
        if gone:
            self._since_s, self._tries = now_s, 0
        return gone

    def message(self, row: Row) -> tuple[Channel, bytes]:
        """The channel and payload of a row."""
        report = Report(
            host_id=self.who.host_id, epoch=self.epoch, seq=row.seq, floor=self._rows[0].seq, start=self.start
        )
        if row.what == EVENT:
            report.events = [raw(self._event(row))]
            return Channel.EVENT, encode(report)
        whole, elapsed_s = row.what == EVERYTHING, (row.at_ms - self._begun_ms) / 1000
        report.runs = [
            replay.make_run(subject, self.who, row.at_ms, elapsed_s, whole=whole)
            for subject in self.portrait.subjects
            if whole or subject.every_s == row.what
        ]
        return Channel.REPORT, encode(report)

    def birth(self, at_ms: int) -> bytes:
        """As the agent says it, on every connect."""
        said = Birth(
            host_id=self.who.host_id,
            start=self.start,
            epoch=self.epoch,
            hostname=self.who.hostname,
            at_ms=at_ms,
            agent_version="simulated",
            boot_id=str(UUID(self.start)),
            fingerprint=replay.fingerprint(self.portrait, self.who),
            labels={"fleet": "simulated", "capture": self.portrait.name},
            collectors=[subject.collector for subject in self.portrait.subjects],
            generation=self.generation,
        )
        return encode(said)

    def state(self, *, online: bool) -> bytes:
        """Online or not; the offline one is the will."""
        return encode(State(host_id=self.who.host_id, start=self.start, online=online))

    def reported(self, desired: Desired, at_ms: int) -> bytes:
        """The answer to a desired document: taken note of, for ever pending."""
        self.generation = max(self.generation, desired.generation)
        said = Reported(
            host_id=self.who.host_id,
            start=self.start,
            generation=desired.generation,
            hash=desired.hash,
            status=ReportedStatus.PENDING,
            at_ms=at_ms,
            reason="a simulated host changes nothing",
        )
        return encode(said)

    def _event(self, row: Row) -> Event:
        """The link of one of its NICs went down or up, the same whenever this row is sent."""
        chance = random.Random(f"{self.who.number}/{row.seq}")  # noqa: S311 - no secret
        key = replay.own_key(self.portrait, self.who, chance.choice(self.portrait.nics)) if self.portrait.nics else ""
        up = chance.random() < 0.5
        kind, severity = ("link.up", Severity.INFO) if up else ("link.down", Severity.WARNING)
        text = f"{key}: the link went {'up' if up else 'down'} (simulated)"
        return Event(at_ms=row.at_ms, kind=kind, key=key, severity=severity, text=text)
