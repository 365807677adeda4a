"""From the desired document to outcomes: plans in this process, changes in a process of their own that is watched here.

The transaction asks before it commits. The word is given when the inventory acknowledges a row that was first sent
after the change was verified: that is the proof that this host can still be reached both ways.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import structs

from agent import drift, statefile
from agent.documents import Documents, RefusedError, undone
from agent.outcomes import worst
from tuners import measure
from tuners.hostfacts import HostFacts
from wire.codec import encode
from wire.measure import Verdict
from wire.policy import Desired, Outcome, OutcomeStatus, Reported, ReportedStatus, Setting, content_hash
from wire.report import Event, Severity

if TYPE_CHECKING:
    import subprocess

PAUSE_S = (30.0, 3600.0)  # between two transactions about the same document; doubles each time
END_S = 10.0  # a transaction that lost its agent gets that long to revert when the agent is stopped
NOTHING, BUSY = 3, 4  # exit codes of agent.transaction
_ROOT = str(Path(__file__).resolve().parents[1])

log = logging.getLogger("rackhand.tuning")


class Line(msgspec.Struct, kw_only=True):
    """What a transaction prints: its phase, and what belongs to it."""

    phase: str  # "recovered" | "verified" | "final"
    tx: str = ""
    reported: Reported | None = None
    played: dict[str, Any] = {}


_LINE = msgspec.json.Decoder(Line)

_EVENTS: dict[ReportedStatus, tuple[str, Severity]] = {
    ReportedStatus.APPLIED: ("policy.applied", Severity.INFO),
    ReportedStatus.DRIFTED: ("policy.drifted", Severity.WARNING),
    ReportedStatus.FAILED: ("policy.failed", Severity.CRITICAL),
    ReportedStatus.REVERTED: ("policy.reverted", Severity.CRITICAL),
    ReportedStatus.PENDING: ("policy.pending", Severity.INFO),
}


class Tuning:
    """One host's desired document at work; used by one thread.

    `tell` stores an event, `publish` sends what is reported, `ended` is called after a transaction and with a new
    document (facts are to be read again), `peers` are HOST:PORT that must stay reachable.
    """

    def __init__(
        self,
        state: Path,
        *,
        host_id: str,
        start: str,
        observe: bool,
        peers: Sequence[str],
        tell: Callable[[Event], None],
        publish: Callable[[Reported], None],
        ended: Callable[[], None],
    ) -> None:
        self.documents = Documents(state)
        self._state = state
        self._host_id = host_id
        self._start = start
        self._observe = observe
        self._peers = peers
        self._tell = tell
        self._publish = publish
        self._after = ended
        self.ended_ms = 0  # when this process last changed the machine: facts that are older say nothing
        self._child: subprocess.Popen[bytes] | None = None
        self._heard = b""
        self._verified_s: float | None = None
        self._not_before_s = 0.0
        self._tries = 0
        self._final: Reported | None = None
        self._refused: set[str] = set()
        self._unkept: Desired | None = None  # arrived, but the disk did not take it
        self._tried: Callable[[Reported | None], None] | None = None  # who hears of a step of the agent's own

    def offer(self, desired: Desired) -> None:
        """A document arrived: keep it when it is newer; what is wrong with it is told once."""
        self._unkept = None
        try:
            newer = self.documents.accept(desired)
        except (RefusedError, OSError) as error:
            if isinstance(error, OSError):
                self._unkept = desired
            if str(error) not in self._refused:
                self._refused.add(str(error))
                self._event("policy.refused", Severity.WARNING, str(error), desired.generation)
            return
        if newer:
            self._tries = 0
            self._not_before_s = 0.0
            self._refused.clear()
            self._after()  # it may be planned from what nobody has read since the last change
            self._event("policy.received", Severity.INFO, f"generation {desired.generation}", desired.generation)
            self._say(ReportedStatus.PENDING, [])
        elif self.documents.current is not None:
            self._publish(self.documents.current)

    def retry(self) -> None:
        """Try again to keep a document that the disk did not take; nothing is done before it is kept."""
        if self._unkept is not None:
            self.offer(self._unkept)

    def look(self, facts: HostFacts, *, connected: bool) -> None:
        """Fresh facts: compare, report what is new about it, and begin a transaction where one is due."""
        if self._child is None and self.documents.refresh():
            self._undone_outside()
            return  # these facts may be of the time before
        desired = self.documents.desired
        if desired is None or self._child is not None:
            return
        earlier = self.documents.current
        results = drift.assess(desired, facts, earlier, observe=self._observe)
        due = not self._observe and (drift.drifted(results) or _unsettled(earlier))
        if due:
            self._due(desired, results, earlier, connected=connected)
        elif earlier is None or not drift.same(earlier.outcomes, results):
            self._say(worst(results), results, tx=earlier.tx if earlier else "")

    def trial(self, settings: list[Setting], tried: Callable[[Reported | None], None]) -> bool:
        """Begin a transaction of the agent's own choice; `tried` hears what came of it. False when it cannot be now."""
        desired = self.documents.desired
        if desired is None or self._observe or self._child is not None or time.monotonic() < self._not_before_s:
            return False
        path = self._state / "trial.json"
        try:
            own = structs.replace(desired, generation=0, settings=settings, hash=content_hash(settings))
            statefile.replace(path, encode(own))
        except OSError as error:
            log.warning("%s", error)
            return False
        self._tried = tried
        self._spawn("--desired", str(path))
        return True

    def acknowledged(self, first_sent_s: float) -> None:
        """The inventory has a row that was first sent at that monotonic time."""
        if self._verified_s is not None and first_sent_s > self._verified_s:
            self._verified_s = None
            self._order(b"commit\n")

    def fileno(self) -> int | None:
        """To wait on for the transaction's next line; None when none runs."""
        return self._child.stdout.fileno() if self._child is not None and self._child.stdout is not None else None

    def step(self) -> None:
        """Take what the transaction says; never blocks."""
        child = self._child
        if child is None or child.stdout is None:
            return
        try:
            while chunk := os.read(child.stdout.fileno(), 65536):
                self._heard += chunk
        except BlockingIOError:
            pass
        *lines, self._heard = self._heard.split(b"\n")
        for line in lines:
            self._take(line)
        if child.poll() is not None:
            self._ended(child.returncode)

    def undone(self, outcomes: list[Outcome], tx: str, reason: str) -> None:
        """Something was rolled back: its settings stay so until there is a new document."""
        self.ended_ms = time.time_ns() // 1_000_000
        self._after()
        if (reported := undone(self.documents, outcomes, tx, reason)) is not None:
            self._publish(structs.replace(reported, start=self._start))

    def _undone_outside(self) -> None:
        """Somebody on this host rolled back by hand: facts that are older say nothing."""
        self.ended_ms = time.time_ns() // 1_000_000
        self._after()
        self.republish()
        reported = self.documents.reported
        if reported is not None:
            kind, severity = _EVENTS[reported.status]
            self._event(kind, severity, f"on this host: {reported.reason}", reported.generation, reported.tx)

    def republish(self) -> None:
        """Say again what was reported, as this process, after a connect."""
        if self.documents.reported is not None:
            self._publish(structs.replace(self.documents.reported, start=self._start))

    def close(self) -> None:
        """Leave: a transaction that is not committed yet reverts, and will be tried at the next start."""
        child, self._child = self._child, None
        if child is None:
            return
        import subprocess  # noqa: PLC0415

        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
        try:
            child.wait(END_S)
        except subprocess.TimeoutExpired:
            log.warning("the transaction did not end within %.0f s; its dead-man will", END_S)

    # -- the transaction -----------------------------------------------------------------------------------------------

    def _due(self, desired: Desired, results: list[Outcome], earlier: Reported | None, *, connected: bool) -> None:
        """Begin, unless the link is down (nothing could be confirmed) or the last try was too short ago."""
        now = time.monotonic()
        if now - self._not_before_s > PAUSE_S[1]:
            self._tries = 0
        again = earlier is not None and not _unsettled(earlier)
        if again and earlier is not None and earlier.status is not ReportedStatus.DRIFTED:
            text = ", ".join(one.target for one in results if one.status is OutcomeStatus.DRIFTED)[:200]
            self._say(ReportedStatus.DRIFTED, results, tx=earlier.tx)
            self._event("policy.drifted", Severity.WARNING, f"changed by somebody else: {text}", desired.generation)
        if not connected or now < self._not_before_s:
            return
        if again:
            self._pause(now)
        self._spawn()

    def _pause(self, now: float) -> None:
        self._not_before_s = now + min(PAUSE_S[1], PAUSE_S[0] * 2**self._tries)
        self._tries = min(self._tries + 1, 20)

    def _spawn(self, *more: str) -> None:
        import subprocess  # noqa: PLC0415 - only where something is to be changed

        argv = [sys.executable, "-m", "agent.transaction", "--state", str(self._state), "--start", self._start]
        for peer in self._peers:
            argv += ["--broker", peer]
        argv += more
        path = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))
        self._heard, self._final, self._verified_s = b"", None, None
        with (self._state / "transaction.err").open("wb") as errors:
            self._child = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
                env={**os.environ, "PYTHONPATH": path},
            )
        if self._child.stdout is not None:
            os.set_blocking(self._child.stdout.fileno(), False)

    def _take(self, line: bytes) -> None:
        try:
            said = _LINE.decode(line)
        except msgspec.DecodeError as error:
            log.warning("the transaction said %r: %s", line[:200], error)
            return
        if said.phase == "verified":
            self._event("policy.verified", Severity.INFO, f"transaction {said.tx} waits for an ack", tx=said.tx)
            self._verified_s = time.monotonic()
        elif said.phase == "final":
            self._final = said.reported
        elif said.phase == "recovered":
            text = f"transaction {said.played.get('tx')}: {said.played.get('state')}: {said.played.get('reason')}"
            self._event("policy.recovered", Severity.WARNING, text)

    def _ended(self, code: int) -> None:
        self.close()
        self._verified_s = None
        self.ended_ms = time.time_ns() // 1_000_000
        self._after()
        tried, self._tried = self._tried, None
        if tried is not None:
            self._measured(self._final)
            tried(self._final)
        elif self._final is not None:
            self._report(self._final)
            self._measured(self._final)
            if code != NOTHING:
                kind, severity = _EVENTS[self._final.status]
                text = f"generation {self._final.generation}: {self._final.status}"
                text += f": {self._final.reason}" if self._final.reason else ""
                self._event(kind, severity, text, self._final.generation, self._final.tx)
        elif code != BUSY:
            self._broken(code)
        else:
            self._not_before_s = time.monotonic() + 5.0

    def _measured(self, reported: Reported | None) -> None:
        """What was measured is an event, once for all settings that were measured together."""
        if reported is None:
            return
        found = {one.effect.changed: one.effect for one in reported.outcomes if one.effect is not None}
        for effect in found.values():
            severity = Severity.WARNING if effect.verdict is Verdict.WORSE else Severity.INFO
            text, numbers = measure.told(effect), structs.asdict(effect)
            self._event("policy.measured", severity, text, reported.generation, reported.tx, **numbers)

    def _broken(self, code: int) -> None:
        """It ended without a word about the settings; it is tried again after the pause."""
        words = (self._state / "transaction.err").read_text(errors="replace").strip().splitlines()
        reason = words[-1][:500] if words else f"the transaction ended with {code}"
        self._pause(time.monotonic())
        self._say(ReportedStatus.FAILED, [], reason=reason)
        self._event("policy.failed", Severity.CRITICAL, reason, self.documents.generation)

    def _order(self, word: bytes) -> None:
        if self._child is not None and self._child.stdin is not None:
            try:
                self._child.stdin.write(word)
            except BrokenPipeError:
                log.warning("the transaction ended before it was told to %s", word.decode().strip())

    # -- what is told --------------------------------------------------------------------------------------------------

    def _say(self, status: ReportedStatus, results: list[Outcome], tx: str = "", reason: str = "") -> None:
        desired = self.documents.desired
        if desired is not None:
            at_ms = time.time_ns() // 1_000_000
            made = Reported(
                host_id=self._host_id,
                start=self._start,
                generation=desired.generation,
                hash=desired.hash,
                status=status,
                at_ms=at_ms,
                tx=tx,
                reason=reason,
                outcomes=results,
            )
            self._report(made)

    def _report(self, reported: Reported) -> None:
        try:
            kept = self.documents.report(reported)
        except OSError as error:
            log.warning("reported.json: %s", error)
            kept = True
        if kept:
            self._publish(reported)
        else:  # rolled back by hand since this was found out: that stands
            self.documents.refresh()
            self._undone_outside()

    def _event(
        self, kind: str, severity: Severity, text: str, generation: int = 0, tx: str = "", **more: str | float
    ) -> None:
        data: dict[str, str | int | float | bool | None] = {"generation": generation, "tx": tx, **more}
        at_ms = time.time_ns() // 1_000_000
        self._tell(Event(at_ms=at_ms, kind=kind, severity=severity, text=text, data=data))


def _unsettled(earlier: Reported | None) -> bool:
    """Nothing is known of any setting yet: it is new, or it could not be begun."""
    return earlier is None or (not earlier.outcomes and earlier.status is not ReportedStatus.APPLIED)
