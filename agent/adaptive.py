"""`auto` at work: watches the traffic of the NICs it is set for and has the next step tried, one at a time."""

import contextlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from agent import effects
from agent.effects import Memory
from agent.meter import Meter
from machine import Machine, MachineError
from tuners import adaptive, auto, measure
from tuners.adaptive import Look, Step
from tuners.hostfacts import HostFacts
from tuners.measure import Reading
from wire.facts import Ethtool
from wire.measure import Measure
from wire.policy import Mode, OutcomeStatus, Reported, ReportedStatus, Setting
from wire.report import Event, Severity

if TYPE_CHECKING:
    from agent.tuning import Tuning

EVERY_S = 10.0  # a window, where the policy's `measure` says no other
REST_S = 300.0  # after a step of a NIC, before its next
_FAR_S = 3600.0


class Adaptive:
    """Used by the resident's one thread; `facts` gives those of the last cycle."""

    def __init__(
        self,
        machine: Machine,
        state: Path,
        tuning: "Tuning",
        *,
        facts: Callable[[], HostFacts],
        tell: Callable[[Event], None],
    ) -> None:
        self._machine = machine
        self._state = state
        self._tuning = tuning
        self._facts = facts
        self._tell = tell
        self._next_s = 0.0
        self._last: dict[str, Reading] = {}
        self._looks: dict[str, list[Look]] = {}
        self._rests: dict[str, float] = {}  # NIC -> until when
        self._cannot: set[tuple[str, str]] = set()  # NIC, step: refused, failed or unsupported

    def wait_s(self) -> float:
        """Until the next window ends."""
        return max(0.0, self._next_s - time.monotonic()) if self._settings() else _FAR_S

    def step(self) -> None:
        """End a window when it is time, and have a step tried where the windows ask for one; never blocks."""
        settings = self._settings()
        if not settings or time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + min(one.measure.window_s if one.measure else EVERY_S for one in settings)
        facts = self._facts()
        with contextlib.suppress(MachineError):
            for setting in settings:
                self._look(setting.nic, facts)
        if self._tuning.fileno() is not None:  # what a transaction does is not the traffic's
            self._looks.clear()
        elif self._stands():
            self._try(settings, facts)

    def _settings(self) -> list[Setting]:
        desired = self._tuning.documents.desired
        found = desired.settings if desired else []
        return [setting for setting in found if setting.knob == auto.NAME and setting.mode is Mode.ENFORCE]

    def _stands(self) -> bool:
        """Everything else of the document is as it is to be."""
        current = self._tuning.documents.current
        return current is not None and current.status is ReportedStatus.APPLIED

    def _look(self, nic: str, facts: HostFacts) -> None:
        if nic not in facts.nics:
            return
        now = Meter(self._machine, [facts.nics[nic].ifindex]).read()
        if (last := self._last.get(nic)) is not None:
            self._looks[nic] = [*self._looks.get(nic, []), adaptive.look(last, now)][-adaptive.LOOKS :]
        self._last[nic] = now

    def _try(self, settings: Iterable[Setting], facts: HostFacts) -> None:
        memory = Memory(self._state)
        for setting in settings:
            fact = facts.ethtool.get(setting.nic)
            if fact is None or time.monotonic() < self._rests.get(setting.nic, 0.0):
                continue
            if (found := self._decide(setting, fact, facts, memory)) is not None and self._begin(setting, found):
                return

    def _decide(self, setting: Setting, fact: Ethtool, facts: HostFacts, memory: Memory) -> Step | None:
        limits = auto.bounds(setting.values)
        place = effects.place(self._machine, facts, setting.nic)

        def useless(step: Step) -> bool:
            mine = _setting(setting, step)
            text = effects.changed([mine])
            rule = mine.measure or Measure()
            known = memory.did_not_help(place, text, rule.objective)
            return known is not None or (setting.nic, text) in self._cannot

        return adaptive.decide(self._looks.get(setting.nic, []), fact, limits, useless)

    def _begin(self, setting: Setting, step: Step) -> bool:
        """With the document's other settings, so that what the step recreates is placed again at once."""
        desired = self._tuning.documents.desired
        others = [one for one in desired.settings if one.knob not in (auto.NAME, *auto.OWNS)] if desired else []
        mine = _setting(setting, step)
        begun = self._tuning.trial([*others, mine], lambda final: self._tried(mine, step, final))
        if begun:
            self._looks.clear()
            self._rests[setting.nic] = time.monotonic() + REST_S
        return begun

    def _tried(self, mine: Setting, step: Step, final: Reported | None) -> None:
        outcomes = final.outcomes if final else []
        found = next((one for one in outcomes if (one.knob, one.nic) == (mine.knob, mine.nic)), None)
        text = effects.changed([mine])
        if found is None or found.effect is None:
            self._cannot.add((mine.nic, text))
            result = f"{found.status}: {found.reason}" if found else "it could not be begun"
        else:
            kept = "kept" if found.status is OutcomeStatus.APPLIED else "undone"
            result = f"{kept}: {measure.told(found.effect)}"
        self._tell(
            Event(
                at_ms=time.time_ns() // 1_000_000,
                kind="auto.step",
                key=mine.nic,
                severity=Severity.INFO,
                text=f"{text}, as {step.reason}; {result}",
            )
        )


def _setting(setting: Setting, step: Step) -> Setting:
    """The step as a setting that has to prove itself."""
    rule = setting.measure or Measure(objective=auto.bounds(setting.values).objective)
    return Setting(
        knob=step.knob,
        nic=setting.nic,
        values=step.values,
        policy=setting.policy,
        allow=setting.allow,
        measure=rule,
    )
