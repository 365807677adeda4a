"""From the runs of a cycle to rows of the spool; facts only when they changed, samples only when they moved."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import cast

import msgspec

from agent.moved import Moved
from agent.schedule import Ran
from agent.spool import Body, Row, event_row
from collectors.registry import ALL
from wire.codec import raw
from wire.facts import Fact
from wire.report import Event, Priority, Run, Severity, Status

ROW_BYTES = 512 * 1024  # facts of one row, unless one collector alone has more

_BAD = (Status.FAILED, Status.HUNG)
BANDS = {metric: band for collector in ALL for metric, band in collector.ABOUT.metrics.items()}


class Changes:
    """What the inventory was last told: a digest and a status per collector."""

    def __init__(self, bands: Mapping[str, float] = BANDS) -> None:
        self.facts: dict[str, list[Fact]] = {}
        self._digests: dict[str, str] = {}
        self._statuses: dict[str, Status] = {}
        self._moved = Moved(bands)

    def resend(self) -> None:
        """Send all facts and samples with their next run."""
        self._digests.clear()
        self._moved.resend()

    def rows(self, cycle: Sequence[Ran]) -> list[Row]:
        """One row of samples, rows of changed facts, and one of events, if there are any."""
        runs = [self._run(ran) for ran in cycle]
        changed = [run for run in runs if run.facts is not None]
        plain = [run for run in runs if run.facts is None]
        events = [event for ran in cycle for event in [*ran.result.events, *self._turned(ran)]]
        rows = [Row(Priority.INVENTORY, Body(runs=part)) for part in _parts(changed)]
        if plain:
            rows.append(Row(Priority.TELEMETRY, Body(runs=plain)))
        return [event_row(*events), *rows] if events else rows

    def _run(self, ran: Ran) -> Run:
        name, result = ran.name, ran.result
        samples, partial = self._moved.pick(name, result.samples)
        made = Run(
            collector=name,
            status=result.status,
            at_ms=ran.at_ms,
            duration_ms=result.duration_ms,
            reason=result.reason,
            partial=partial,
            samples=cast("list[msgspec.Raw]", samples),  # encoded with the row, to the same bytes
        )
        if result.status in _BAD:
            return made  # what the facts are is not known
        if name in self._digests and result.facts == self.facts.get(name):
            made.digest = self._digests[name]
            return made
        self.facts[name] = result.facts
        items = [raw(fact) for fact in sorted(result.facts, key=lambda fact: fact.key)]
        made.digest = hashlib.blake2b(msgspec.json.encode(items), digest_size=8).hexdigest()
        if self._digests.get(name) != made.digest:
            self._digests[name] = made.digest
            made.facts = items
        return made

    def _turned(self, ran: Ran) -> list[Event]:
        """A collector began to fail or hang, or works again."""
        before = self._statuses.get(ran.name, Status.OK)
        now = self._statuses[ran.name] = ran.result.status
        if (before in _BAD) == (now in _BAD):
            return []
        text = f"collector {ran.name}: {now}" + (f": {ran.result.reason}" if ran.result.reason else "")
        severity = Severity.WARNING if now in _BAD else Severity.INFO
        return [Event(at_ms=ran.at_ms, kind=f"collector.{now}", key=ran.name, severity=severity, text=text)]


def _parts(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs in groups of about ROW_BYTES."""
    parts: list[list[Run]] = []
    room = 0
    for run in runs:
        size = sum(len(bytes(fact)) for fact in run.facts or ())
        if not parts or size > room:
            parts.append([])
            room = ROW_BYTES
        parts[-1].append(run)
        room -= size
    return parts
