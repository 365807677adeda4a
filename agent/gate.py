"""The measurement gate of one transaction: windows before and after, the verdict, and what is remembered of it."""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from msgspec import structs

from agent import effects, outcomes
from agent.effects import Memory
from agent.meter import Meter, asker
from collectors.run import collect_facts
from machine import Writer
from tuners import engine, measure
from tuners.hostfacts import HostFacts
from tuners.measure import Window
from wire.facts import Irq, Nic
from wire.measure import Effect, Keep, Measure, Verdict
from wire.policy import Blast, Change, Outcome, OutcomeStatus, Setting

if TYPE_CHECKING:
    from agent.work import Work

PLACE_FROM = ("cpu", "nic", "pci")
SPARE_S = 10.0  # for reading the counters and making the changes, besides the windows themselves
SETTLE_S = 0.5

Stop = Callable[[], str]


class Question(NamedTuple):
    """What is measured: by which rule, of which settings, at what kind of place; `nic` is "" for several."""

    measure: Measure
    settings: list[Setting]
    changed: str
    place: str
    nic: str


def asked(settings: Sequence[Setting], pending: Sequence[Change], writer: Writer) -> Question | None:
    """What a transaction that is to make these changes has to prove; None when none of their settings asks."""
    keys = {outcomes.key(change) for change in pending}
    touched = [setting for setting in settings if outcomes.key(setting) in keys]
    rules = [setting.measure for setting in touched if setting.measure is not None]
    if not rules:
        return None
    nics = {setting.nic for setting in touched if setting.nic}
    nic = nics.pop() if len(nics) == 1 else ""
    facts = HostFacts(collect_facts(writer, PLACE_FROM))
    return Question(rules[0], touched, effects.changed(touched), effects.place(writer, facts, nic), nic)


def opened(settings: Sequence[Setting], work: "Work", state: Path, brokers: Sequence[tuple[str, int]]) -> "Gate | None":
    """The gate of a transaction that has something to prove, else None."""
    question = asked(settings, work.pending, work.writer)
    broker = f"{brokers[0][0]}:{brokers[0][1]}" if brokers else ""
    return Gate(question, work, state, broker) if question else None


def carrying(nics: Iterable[Nic]) -> set[int]:
    """Indices of the interfaces that a host's traffic is counted at once by, for what is the host's own."""
    found = list(nics)
    physical = {nic.ifindex for nic in found if nic.type == "physical"}
    return physical or {nic.ifindex for nic in found if nic.type != "loopback" and not nic.lower}


class Gate:
    """Measures what a question is about; `effect` is None until there is a verdict."""

    def __init__(self, question: Question, work: "Work", state: Path, broker: str = "") -> None:
        self._question = question
        self._work = work
        self._memory = Memory(state)
        self._before: list[Window] = []
        self._after: list[Window] = []
        ask = None
        with contextlib.suppress(OSError):  # then nothing is probed
            ask = asker(question.measure.probe or broker)
        self._meter = Meter(work.writer, work.ifindexes() or carrying(work.nics().values()), ask)
        self._interleaved = all(change.blast is Blast.SAFE for change in work.pending)
        self.effect: Effect | None = None

    def remembered(self) -> Effect | None:
        """The same did not help at such a place: it need not be tried."""
        rule = self._question.measure
        if rule.keep is not Keep.BETTER:
            return None
        return self._memory.did_not_help(self._question.place, self._question.changed, rule.objective)

    def seconds(self) -> float:
        """How long judging takes at most."""
        rule = self._question.measure
        sides = 2 if self._interleaved else 1
        return sides * rule.windows * (1.1 * rule.window_s + SETTLE_S) + SPARE_S

    def before(self, stop: Stop) -> None:
        """Look before anything is changed; raises MachineError."""
        self._look(self._before, 1 if self._interleaved else self._question.measure.windows, stop)

    def judge(self, stop: Stop) -> str:
        """Look after the changes are made; why they are to be undone, "" when they may stay. Raises MachineError.

        Changes that only place work are taken back and made again between the windows, so that drift cancels.
        """
        rule = self._question.measure
        self._look(self._after, 1 if self._interleaved else rule.windows, stop)
        while len(self._after) < rule.windows and not stop():
            if why := self._put(stop, back=True):
                return why
            self._look(self._before, 1, stop)
            if why := self._put(stop, back=False):
                return why
            self._look(self._after, 1, stop)
        if why := stop():
            return why
        return self._verdict(rule)

    def _verdict(self, rule: Measure) -> str:
        found = measure.judge(self._before, self._after, rule, interleaved=self._interleaved)
        self.effect = structs.replace(found, changed=self._question.changed, place=self._question.place)
        if found.verdict is not Verdict.UNPROVEN:
            with contextlib.suppress(OSError):  # it is told all the same
                self._memory.keep(self._question.nic, self.effect)
        return "" if measure.kept(found, rule.keep) else f"measured: {measure.told(self.effect)}"

    def _look(self, side: list[Window], count: int, stop: Stop) -> None:
        seconds = self._question.measure.window_s
        self._meter.window(max(SETTLE_S, seconds / 10), stop)  # what was under way when it was changed is not counted
        side += [measure.window(*self._meter.window(seconds, stop)) for _ in range(count)]

    def _put(self, stop: Stop, *, back: bool) -> str:
        """Take the changes back, or make them again; why that failed, else ""."""
        changes, nics = self._work.applied(), self._work.nics()
        writer = self._work.writer
        if back:
            irqs = [fact for fact in collect_facts(writer, ("irq",)) if isinstance(fact, Irq)]
            made = engine.undo(writer, changes, nics, irqs)
        else:
            made = engine.apply(writer, changes, nics, stop)
        return next((one.reason for one in made if one.status is OutcomeStatus.FAILED), "")

    def told(self, results: list[Outcome]) -> list[Outcome]:
        """The outcomes with what was measured of them."""
        if self.effect is None:
            return results
        keys = {outcomes.key(setting) for setting in self._question.settings}
        return [structs.replace(one, effect=self.effect) if outcomes.key(one) in keys else one for one in results]

    def not_again(self, known: Effect, results: Sequence[Outcome]) -> list[Outcome]:
        """Outcomes of a transaction that is not begun, because of what is known."""
        self.effect = known
        keys = {outcomes.key(setting) for setting in self._question.settings}
        why = f"measured before: {measure.told(known)}"
        undone = {"status": OutcomeStatus.REVERTED, "reason": why}
        return [structs.replace(one, **(undone if outcomes.key(one) in keys else {})) for one in results]
