"""What came of each setting (knob and NIC), gathered from what came of its changes."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from wire.policy import Change, Outcome, OutcomeStatus, ReportedStatus, Setting, Skip

if TYPE_CHECKING:
    from tuners.engine import Made

Key = tuple[str, str]  # knob, key of the NIC

_WORST_FIRST = (
    OutcomeStatus.FAILED,
    OutcomeStatus.REVERTED,
    OutcomeStatus.REFUSED,
    OutcomeStatus.DRIFTED,
    OutcomeStatus.UNSUPPORTED,
    OutcomeStatus.APPLIED,
    OutcomeStatus.WARNED,
    OutcomeStatus.YIELDED,
    OutcomeStatus.UNCHANGED,
)

_HOST = {
    OutcomeStatus.FAILED: ReportedStatus.FAILED,
    OutcomeStatus.REVERTED: ReportedStatus.REVERTED,
    OutcomeStatus.REFUSED: ReportedStatus.FAILED,
    OutcomeStatus.DRIFTED: ReportedStatus.DRIFTED,
    OutcomeStatus.WARNED: ReportedStatus.DRIFTED,
}


def key(item: Setting | Change | Skip | Outcome) -> Key:
    """Which setting it is about."""
    return item.knob, item.nic


def worst(results: Sequence[Outcome]) -> ReportedStatus:
    """The host as a whole."""
    statuses = {one.status for one in results}
    order = (*_WORST_FIRST[:4], OutcomeStatus.WARNED)
    return next((_HOST[status] for status in order if status in statuses), ReportedStatus.APPLIED)


def given_up(one: Outcome) -> bool:
    """It was tried and did not work, or was undone: it stays so until there is a new document."""
    return one.status is OutcomeStatus.REVERTED or (one.status is OutcomeStatus.FAILED and bool(one.changes))


def merged(results: Iterable[Outcome]) -> list[Outcome]:
    """One outcome per setting: the worst, with the reasons and changes of all that are as bad."""
    groups: dict[Key, list[Outcome]] = {}
    for one in results:
        groups.setdefault(key(one), []).append(one)
    return [_merge(group) for _, group in sorted(groups.items())]


def _merge(group: list[Outcome]) -> Outcome:
    status = min((one.status for one in group), key=_WORST_FIRST.index)
    alike = [one for one in group if one.status is status]
    return Outcome(
        knob=group[0].knob,
        nic=group[0].nic,
        status=status,
        target=alike[0].target,
        policy=alike[0].policy,
        reason="; ".join(dict.fromkeys(one.reason for one in alike if one.reason)),
        changes=[change for one in group for change in one.changes],
    )


def of_change(change: Change, status: OutcomeStatus, reason: str = "") -> Outcome:
    """The part one change has in its setting's outcome."""
    return Outcome(
        knob=change.knob,
        nic=change.nic,
        status=status,
        target=change.target,
        policy=change.policy,
        reason=reason,
        changes=[change],
    )


def of_skip(skip: Skip) -> Outcome:
    """The part of a setting that could not be planned."""
    return Outcome(
        knob=skip.knob, nic=skip.nic, status=skip.status, target=skip.target, policy=skip.policy, reason=skip.reason
    )


def of_setting(setting: Setting, status: OutcomeStatus, reason: str = "") -> Outcome:
    """A setting as a whole."""
    return Outcome(knob=setting.knob, nic=setting.nic, status=status, policy=setting.policy, reason=reason)


def undone(changes: Sequence[Change], made: "Sequence[Made]", reason: str) -> list[Outcome]:
    """Outcomes of settings whose changes were undone: reverted, or failed where something could not be."""
    results = [of_change(change, OutcomeStatus.REVERTED, reason) for change in changes]
    results += [of_change(one.change, one.status, one.reason) for one in made if one.status is OutcomeStatus.FAILED]
    return merged(results)
