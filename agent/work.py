"""The work of one transaction between its journal and its verdict: plan, guard, apply by stages, verify.

Within a stage, one NIC after the other: the next is touched when the one before is as good as it was.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import structs

from agent import blast, flows, guard, journal, legs, outcomes, probes, pulse
from agent.guard import Path
from agent.journal import Journal
from agent.outcomes import Key
from agent.probes import Probe
from agent.worker import HungError
from collectors.run import collect_facts
from machine import Writer
from tuners import engine, planner, quirks
from tuners.about import Stage
from tuners.engine import Made
from tuners.hostfacts import HostFacts
from tuners.registry import BY_NAME
from wire.facts import Fact, Irq, Nic, Queues, Rss
from wire.policy import (
    Change,
    Desired,
    FileWrite,
    IrqBan,
    Mode,
    Op,
    Outcome,
    OutcomeStatus,
    Plan,
    Reported,
    Request,
    Setting,
    Skip,
)

FACTS = ("cpu", "numa", "nic", "ethtool", "irq", "queues", "softnet")  # what the guard and any undoing need
SETTLE_S = 30.0  # for a NIC to be as good as it was before its change
ROUNDS = 2  # a knob may free another's way: there can be fewer channels once a flow rule is gone
_STOOD = (OutcomeStatus.APPLIED, OutcomeStatus.UNCHANGED, OutcomeStatus.YIELDED)


class FailedError(Exception):
    """The transaction cannot stand and has to be undone; the message is one line."""


Stop = Callable[[], str]


class Work:
    """What one desired document comes to on this machine; `pending` is what has to be changed for it now."""

    def __init__(self, writer: Writer, desired: Desired, peers: Iterable[str], earlier: Reported | None) -> None:
        self.writer = writer
        self.settle_s = min(SETTLE_S, desired.confirm_s / 2)
        self._settings = desired.settings
        before = _before(desired, earlier)
        self._stood = {key for key, one in before.items() if one.status in _STOOD}
        given_up = {key: one for key, one in before.items() if outcomes.given_up(one)}
        self._aside: dict[Key, Outcome] = given_up  # with the refused and yielded: no part of this transaction
        self._warned: dict[Key, list[Change]] = {}
        self._skips: list[Skip] = []
        self._made: list[Made] = []
        self._facts = self.read()
        near = self._near = tuple(peers)
        self._path = guard.survey(writer, self._facts.nics, near)
        self._flows = flows.read(writer, near)
        self.pending = self._plan(self._facts)
        self._stay = {change.nic for change in self.pending if change.nic}
        self._stay &= planner.project(self._facts, Plan(changes=self.pending)).nics.keys()

    def read(self) -> HostFacts:
        """The facts that planning needs, as they are now."""
        needed = planner.collectors({setting.knob for setting in self._settings})
        return HostFacts(collect_facts(self.writer, sorted({*FACTS, *needed})))

    def ifindexes(self) -> set[int]:
        """Interfaces that are about to be touched."""
        keys = {change.nic for change in self.pending}
        return {nic.ifindex for key, nic in self._facts.nics.items() if key in keys}

    def applied(self) -> list[Change]:
        """What was changed, in order."""
        return [made.change for made in self._made if made.status is OutcomeStatus.APPLIED]

    def nics(self) -> Mapping[str, Nic]:
        """The NICs by key, as when this was planned."""
        return self._facts.nics

    def _plan(self, facts: HostFacts, stage: Stage | None = None) -> list[Change]:
        """What to change now; settings that are refused, or yield, are put aside and the rest is planned anew."""
        while True:
            settings = [setting for setting in self._settings if outcomes.key(setting) not in self._aside]
            plan = planner.plan(settings, facts, stage)
            warned = {outcomes.key(setting) for setting in settings if setting.mode is Mode.WARN}
            left = [change for change in plan.changes if outcomes.key(change) not in self._aside]
            changes = [change for change in left if outcomes.key(change) not in warned]
            if not self._put_aside(changes, settings):
                break
        self._skips = [skip for skip in plan.skips if skip.reason != planner.LATER]
        for change in left:
            if outcomes.key(change) in warned:
                self._warned.setdefault(outcomes.key(change), []).append(change)
        done = {_place(made.change) for made in self._made if made.status is OutcomeStatus.UNSUPPORTED}
        return [change for change in changes if _place(change) not in done]

    def _put_aside(self, changes: Sequence[Change], settings: Sequence[Setting]) -> bool:
        refused = guard.refused(changes, settings, self._path)
        refused |= flows.refused(changes, self._flows, self._path.why)
        differs = {outcomes.key(change) for change in changes}
        found = False
        for setting in settings:
            key = outcomes.key(setting)
            if key in refused:
                self._aside[key] = self._whole(setting, OutcomeStatus.REFUSED, refused[key])
            elif setting.mode is Mode.YIELD and key in differs & self._stood:
                why = "somebody else changed it after it was applied"
                self._aside[key] = self._whole(setting, OutcomeStatus.YIELDED, why)
            else:
                continue
            found = True
        for change in changes:  # the host's part of what NICs' settings bring along
            if (key := outcomes.key(change)) in refused and key not in self._aside:
                self._aside[key] = outcomes.of_change(change, OutcomeStatus.REFUSED, refused[key])
                found = True
        return found

    def _whole(self, setting: Setting, status: OutcomeStatus, reason: str = "") -> Outcome:
        """A setting's outcome, with its NIC's name for people."""
        nic = self._facts.nics.get(setting.nic)
        return structs.replace(outcomes.of_setting(setting, status, reason), target=nic.ifname if nic else "")

    def apply(self, log: Journal, stop: Stop, chosen: Sequence[Probe] = ()) -> None:
        """Apply by stages and verify that nothing is left to do; `chosen` have to pass between dangerous changes.

        Raises FailedError, MachineError, JournalError, HungError.
        """
        left: list[Change] = []
        for _ in range(ROUNDS):
            for stage in Stage:
                if not self._stage(stage, log, stop, chosen):
                    self._stage(stage, log, stop, chosen, last=True)
            facts = self.read()
            self._check_still_there(facts)
            left = [change for change in self._plan(facts) if not self._waits_for_boot(change)]
            if not left:
                return
            if {_place(change) for change in left} & {_place(one.change) for one in self._made}:
                break
        raise FailedError(f"did not stay: {', '.join(change.target for change in left[:5])}")

    def _waits_for_boot(self, change: Change) -> bool:
        made = {_place(one.change) for one in self._made if one.status is OutcomeStatus.APPLIED}
        return blast.NEEDS[change.blast].boots and _place(change) in made

    def _check_still_there(self, facts: HostFacts) -> None:
        """A NIC that vanished or was renamed under its key would otherwise only look like nothing to do."""
        if gone := sorted(self._stay - facts.nics.keys()):
            raise FailedError(f"interface {', '.join(gone)} went away in the middle of the plan")

    def _stage(self, stage: Stage, log: Journal, stop: Stop, chosen: Sequence[Probe], *, last: bool = False) -> bool:
        """Plan on fresh facts, journal, apply; False when a value changed meanwhile, so that a new plan may help.

        So it may have where irqbalance was told just now: until then it moved what the plan found in its place. And
        where a cpuset partition began or ended: which CPUs do housekeeping is known when they are read again.
        """
        facts = self.read()
        self._check_still_there(facts)
        changes = self._plan(facts, stage)
        for batch in batches(changes, self._path):
            if not self._batch(batch, facts, log, stop, last=last):
                return False
            if any(change.knob == "xdp" for change in batch):
                pulse.feed(self.writer, self._near)  # without it they pass everything, and probes prove nothing
            if any(blast.careful(change.blast) for change in batch):
                self._look_around(chosen, stop)
        return last or not any(_moves_others(change.op) for change in changes)

    def _batch(self, changes: list[Change], facts: HostFacts, log: Journal, stop: Stop, *, last: bool) -> bool:
        """Journal and make them, and wait until their NICs are as before; False when one was stale, and not `last`."""
        indices = {facts.nics[change.nic].ifindex for change in changes if change.nic in facts.nics}
        alone = any(blast.NEEDS[change.blast].alone for change in changes)
        before = legs.read_health(self.writer, indices) if alone else {}
        if alone:
            self._check_stake(changes, facts)
        staged = _staged(changes, facts)
        log.append(staged)
        made = self._make(changes, facts, stop)
        if made[-1].stale and not last:
            self._made += made[:-1]
            return False
        self._made += made
        if made[-1].status is OutcomeStatus.FAILED:
            raise FailedError(made[-1].reason)
        if staged.reshaped:  # surviving queues keep what nobody asked to change
            irqs = [fact for fact in collect_facts(self.writer, ("irq",)) if isinstance(fact, Irq)]
            engine.restore(self.writer, staged.before, staged.reshaped, irqs)
        _pause(quirks.settling_s(changes, facts), stop)
        if missing := legs.settled(self.writer, before, self.settle_s, stop):
            raise FailedError(f"not as before after {changes[-1].knob} of {changes[-1].target}: {', '.join(missing)}")
        return True

    def _check_stake(self, changes: Sequence[Change], facts: HostFacts) -> None:
        """A bond may have lost a leg since the plan: then this one is its last."""
        path = self._path._replace(legs=guard.leg_keys(self.writer, facts.nics))
        if refused := guard.refused(changes, self._settings, path):
            raise FailedError(next(iter(refused.values())))

    def _make(self, changes: Sequence[Change], facts: HostFacts, stop: Stop) -> list[Made]:
        """Make them in order up to the first failure; a write that hangs is on record as failed. Raises HungError."""
        made: list[Made] = []
        for change in changes:
            try:
                made += engine.apply(self.writer, [change], facts.nics, stop)
            except HungError as error:
                self._made += [*made, Made(change, OutcomeStatus.FAILED, str(error))]
                raise
            if made[-1].status is OutcomeStatus.FAILED:
                break
        return made

    def _look_around(self, chosen: Sequence[Probe], stop: Stop) -> None:
        """What worked before has to work before anything else is touched."""
        if missing := probes.failing(chosen, self.settle_s, stop):
            raise FailedError(f"worked before and does not now: {', '.join(missing)}")

    def results(self, undone: Sequence[Outcome] = ()) -> list[Outcome]:
        """One outcome per setting, and per host-wide change a setting brought along."""
        parts = [self._whole(setting, OutcomeStatus.UNCHANGED) for setting in self._settings]
        parts += map(outcomes.of_skip, self._skips)
        parts += self._aside.values()
        for changes in self._warned.values():
            parts += [outcomes.of_change(change, OutcomeStatus.WARNED) for change in changes]
        failed = [made for made in self._made if made.status is OutcomeStatus.FAILED]
        for made in failed if undone else self._made:
            waits = made.status is OutcomeStatus.APPLIED and blast.NEEDS[made.change.blast].boots
            parts.append(outcomes.of_change(made.change, made.status, blast.NEXT_BOOT if waits else made.reason))
        return outcomes.merged([*parts, *undone])


def _before(desired: Desired, earlier: Reported | None) -> dict[Key, Outcome]:
    """What was last reported of this very document, by setting."""
    if earlier is None or (earlier.generation, earlier.hash) != (desired.generation, desired.hash):
        return {}
    return {outcomes.key(one): one for one in earlier.outcomes}


def batches(changes: Sequence[Change], path: Path) -> list[list[Change]]:
    """What is made together: first all that disturbs nothing, then NIC by NIC, each with all of its changes.

    NICs off the management path come first, and a leg that stands by before the one that carries the traffic.
    """
    rough = {change.nic for change in changes if blast.careful(change.blast)}
    gentle = [change for change in changes if change.nic not in rough]
    order = sorted(
        dict.fromkeys(change.nic for change in changes if change.nic in rough), key=lambda nic: _rank(nic, path)
    )
    return [part for part in (gentle, *([one for one in changes if one.nic == nic] for nic in order)) if part]


def _rank(nic: str, path: Path) -> tuple[bool, bool]:
    leg = path.legs.get(nic)
    return nic in path.why, leg is not None and leg.active


def _pause(seconds: float, stop: Stop) -> None:
    """Let a driver finish what it does after it said that it had."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not stop():
        time.sleep(legs.LOOK_S)


def _place(change: Change) -> tuple[object, ...]:
    """Where a change writes, whatever it writes."""
    op = change.op
    if isinstance(op, FileWrite):
        return (op.path, op.ifindex)
    return (op.message, op.ifindex, op.item, *sorted(op.after)) if isinstance(op, Request) else ("irqbalance",)


def _moves_others(op: Op) -> bool:
    return isinstance(op, IrqBan) or (isinstance(op, FileWrite) and op.path.endswith("/cpuset.cpus.partition"))


def _staged(changes: list[Change], facts: HostFacts) -> journal.Staged:
    keys = {change.nic for change in changes if change.nic}
    before: list[Fact] = [
        fact for fact in facts.all() if isinstance(fact, (Nic, Queues, Irq, Rss)) and fact.key in keys
    ]
    shaping = (Stage.DEVICE, Stage.SHAPE)
    reshaped = {change.nic for change in changes if BY_NAME[change.knob].ABOUT.stage in shaping}
    return journal.Staged(changes=changes, before=before, reshaped=sorted(reshaped & keys))
