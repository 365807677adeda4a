"""What the present facts say of the desired document: pure, no machine is touched."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from msgspec import structs

from agent import blast
from agent.outcomes import Key, given_up, key, merged, of_setting, of_skip
from tuners import planner
from tuners.hostfacts import HostFacts
from wire.policy import Change, Desired, Mode, Outcome, OutcomeStatus, Reported, Setting, Skip

T = TypeVar("T", Change, Skip)

_STOOD = (OutcomeStatus.APPLIED, OutcomeStatus.UNCHANGED, OutcomeStatus.YIELDED)


def assess(desired: Desired, facts: HostFacts, earlier: Reported | None, *, observe: bool) -> list[Outcome]:
    """One outcome per setting as things are; DRIFTED ones are to be applied (again). `earlier` is of this document.

    What failed, was reverted or refused stays so until there is a new document: nothing is tried in a loop. Once a part
    was reverted nothing of the document is enforced: undoing recreates queues, which other settings would see as drift.
    """
    plan = planner.plan(desired.settings, facts)
    before = {key(outcome): outcome for outcome in earlier.outcomes} if earlier else {}
    held = any(outcome.status is OutcomeStatus.REVERTED for outcome in before.values())
    changes, skips = _grouped(plan.changes), _grouped(plan.skips)
    settings = [*desired.settings, *_host_wide(desired.settings, changes)]
    found = (
        _outcome(one, changes.get(key(one), []), skips.get(key(one), []), before.get(key(one)), observe=observe)
        for one in settings
    )
    return [_hold(outcome) if held else outcome for outcome in merged(found)]


def _hold(outcome: Outcome) -> Outcome:
    if outcome.status is not OutcomeStatus.DRIFTED:
        return outcome
    why = "differs, and is left alone: a part of this document was reverted"
    return structs.replace(outcome, status=OutcomeStatus.REVERTED, reason=why)


def _grouped(items: Iterable[T]) -> dict[Key, list[T]]:
    groups: dict[Key, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _host_wide(settings: Sequence[Setting], changes: Iterable[Key]) -> list[Setting]:
    """Changes to the host as a whole that settings of NICs bring along (irqbalance, the size of the flow table)."""
    known = {key(setting) for setting in settings}
    modes = {setting.knob: setting.mode for setting in reversed(settings)}
    return [
        Setting(knob=knob, nic=nic, values={}, mode=modes[knob]) for knob, nic in changes if (knob, nic) not in known
    ]


def drifted(results: Sequence[Outcome]) -> bool:
    """True when something is to be applied."""
    return any(outcome.status is OutcomeStatus.DRIFTED for outcome in results)


def same(one: Sequence[Outcome], other: Sequence[Outcome]) -> bool:
    """True when two lists tell people the same: status, target and reason of every setting."""
    return [_told(outcome) for outcome in one] == [_told(outcome) for outcome in other]


def _told(outcome: Outcome) -> tuple[str, str, str, str]:
    return (outcome.knob, outcome.nic, outcome.status, outcome.reason)


def _outcome(
    setting: Setting, changes: list[Change], skips: list[Skip], before: Outcome | None, *, observe: bool
) -> Outcome:
    if before is not None and _waits(changes, before):
        return before
    if changes or any(skip.status is OutcomeStatus.DRIFTED for skip in skips):
        return _differs(setting, changes, before, observe=observe)
    if skips:
        return merged([of_skip(skip) for skip in skips])[0]
    if before is not None and before.status is OutcomeStatus.APPLIED:
        return before
    return of_setting(setting, OutcomeStatus.UNCHANGED)


def _waits(changes: Sequence[Change], before: Outcome) -> bool:
    """It was made, and shows with the next boot."""
    boots = [blast.NEEDS[change.blast].boots for change in changes]
    return before.status is OutcomeStatus.APPLIED and bool(boots) and all(boots)


def _settled(before: Outcome) -> bool:
    """It was tried and did not work; what merely could not be planned then (a NIC was missing) may be now."""
    unsupported = before.status is OutcomeStatus.UNSUPPORTED and bool(before.changes)
    return unsupported or before.status is OutcomeStatus.REFUSED or given_up(before)


def _differs(setting: Setting, changes: list[Change], before: Outcome | None, *, observe: bool) -> Outcome:
    if before is not None and _settled(before):
        return before
    if observe or setting.mode is Mode.WARN:
        why = "the agent observes" if observe else "mode is warn"
        made = of_setting(setting, OutcomeStatus.WARNED, why)
    elif setting.mode is Mode.YIELD and before is not None and before.status in _STOOD:
        made = of_setting(setting, OutcomeStatus.YIELDED, "somebody else changed it after it was applied")
    else:
        made = of_setting(setting, OutcomeStatus.DRIFTED)
    made.target = ", ".join(dict.fromkeys(change.target for change in changes[:8]))
    made.changes = changes
    return made
