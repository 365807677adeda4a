"""The verbs `policy lint`, `plan`, `apply`, `show` and `rm`."""

import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hwdb import assign, store, store_policy
from hwdb.assign import Assigned, HostPlan
from hwdb.cli.ask import confirm
from hwdb.cli.events import moment
from hwdb.cli.failure import Exit, Failure
from hwdb.cli.output import Format, clean, columns, document, emit
from hwdb.db import open_engine, reading, writing
from hwdb.facts import read_hosts
from hwdb.store_policy import PolicyEntry, StatusEntry
from tuners.measure import told
from tuners.policy import Policy, PolicyError, Problem, parse_policy, why_nothing
from tuners.policy import lint as problems_of
from wire.policy import FileWrite, Mode, Op, Outcome, OutcomeStatus, Request, Setting, Values

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from hwdb.db import Conn

GAVE_UP = (OutcomeStatus.FAILED, OutcomeStatus.REVERTED, OutcomeStatus.REFUSED)

PROBLEMS = columns(
    Problem,
    [
        ("line", lambda problem: problem.line),
        ("column", lambda problem: problem.column),
        ("what", lambda problem: problem.message),
    ],
)


class PlanLine(msgspec.Struct):
    """One change, or one setting that comes to nothing."""

    hostname: str
    knob: str
    target: str
    before: str
    after: str
    blast: str
    reason: str
    host_id: str


PLAN = columns(
    PlanLine,
    [
        ("host", lambda line: line.hostname),
        ("knob", lambda line: line.knob),
        ("target", lambda line: line.target),
        ("before", lambda line: line.before),
        ("after", lambda line: line.after),
        ("blast", lambda line: line.blast),
        ("reason", lambda line: line.reason),
    ],
    [("host id", lambda line: line.host_id)],
)


class StatusLine(msgspec.Struct):
    """How a host stands to what policies say, per setting where it has reported."""

    hostname: str
    status: str
    generation: int
    knob: str
    target: str
    outcome: str
    reason: str
    policy: str
    host_id: str


STATUS = columns(
    StatusLine,
    [
        ("host", lambda line: line.hostname),
        ("status", lambda line: line.status),
        ("generation", lambda line: line.generation),
        ("knob", lambda line: line.knob),
        ("target", lambda line: line.target),
        ("outcome", lambda line: line.outcome),
        ("reason", lambda line: line.reason),
    ],
    [("policy", lambda line: line.policy), ("host id", lambda line: line.host_id)],
)
POLICIES = columns(
    PolicyEntry,
    [
        ("policy", lambda policy: policy.name),
        ("priority", lambda policy: policy.priority),
        ("since", lambda policy: moment(policy.created_ms)),
    ],
    [("hash", lambda policy: policy.hash), ("text", lambda policy: policy.text)],
)


class GivenLine(msgspec.Struct):
    """A host and the generation it is to act on."""

    hostname: str
    generation: int
    settings: int
    host_id: str


GIVEN = columns(
    GivenLine,
    [
        ("host", lambda line: line.hostname),
        ("generation", lambda line: line.generation),
        ("settings", lambda line: line.settings),
    ],
    [("host id", lambda line: line.host_id)],
)


def lint(file: Path, form: Format) -> None:
    """Say what is wrong; raises Failure when anything is."""
    problems = problems_of(_read(file))
    emit(problems, PROBLEMS, form, empty=f"{file}: nothing is wrong")
    if problems:
        raise Failure(Exit.BAD_INPUT, f"{file}: {len(problems)} problem{'s' * (len(problems) > 1)}")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise Failure(Exit.BAD_INPUT, f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Failure(Exit.BAD_INPUT, f"{file}: not UTF-8 text") from None


def _parsed(text: str, where: str) -> Policy:
    try:
        return parse_policy(text)
    except PolicyError as error:
        first, more = error.problems[0], len(error.problems) - 1
        rest = f" (and {more} more: `rackhand policy lint`)" if more else ""
        raise Failure(Exit.BAD_INPUT, f"{where}:{first.line}:{first.column}: {first.message}{rest}") from None


def plan(url: str, source: str, host: str, form: Format) -> None:
    """What would change; a file wins over a stored policy of that name."""
    with reading(url) as conn:
        policy = _source(conn, source)
        plans = assign.preview(conn, policy, [store.resolve(conn, host)] if host else None)
        nothing = _nothing(conn, policy, plans)
    if form in (Format.JSON, Format.YAML):
        document(plans, form)
        return
    settled = f"nothing would change: {policy.name} matches {_hosts(len(plans))}, and they are as it says"
    emit([line for one in plans for line in _plan_lines(one)], PLAN, form, empty=nothing or settled)


def _hosts(count: int) -> str:
    return f"{count} host" if count == 1 else f"{count} hosts"


def _nothing(conn: "Conn", policy: Policy, plans: list[HostPlan]) -> str:
    """Why it would tune nothing, "" when it tunes something."""
    if any(one.settings for one in plans):
        return ""
    return why_nothing(policy, ((view.labels, view.facts) for view in read_hosts(conn)))


def _source(conn: "Conn", source: str) -> Policy:
    path = Path(source)
    if path.is_file():
        return _parsed(_read(path), source)
    stored = store_policy.policy(conn, source)
    if stored is None:
        raise Failure(Exit.NOT_FOUND, f"no file and no stored policy {source!r}")
    return parse_policy(stored.text)


def _plan_lines(one: HostPlan) -> list[PlanLine]:
    changes = [
        PlanLine(
            one.hostname, change.knob, change.target, *sides(change.op), change.blast.value, change.reason, one.host_id
        )
        for change in one.plan.changes
    ]
    return changes + [
        PlanLine(one.hostname, skip.knob, skip.target, "", "", "skipped", skip.reason, one.host_id)
        for skip in one.plan.skips
    ]


def sides(op: Op) -> tuple[str, str]:
    """Before and after of a change, for people."""
    if isinstance(op, FileWrite):
        return op.before, op.after
    if isinstance(op, Request):
        return _values(op.before), _values(op.after)
    return ",".join(map(str, op.before)), ",".join(map(str, op.after))


def _values(values: Values) -> str:
    words = {True: "on", False: "off"}
    return " ".join(f"{name}={words[value] if isinstance(value, bool) else value}" for name, value in values.items())


def apply(url: str, file: Path, form: Format, *, yes: bool) -> None:
    """Store it and compile for all hosts in one transaction; a running `up` publishes within a second or two.

    Hosts that gave up settings of the policy (failed, reverted, refused) try again, also when its text is the same.
    """
    text = _read(file)
    policy = _parsed(text, str(file))
    with reading(url) as conn:
        plans = assign.preview(conn, policy)
        nothing = _nothing(conn, policy, plans)
        known = store_policy.statuses(conn)
        again = [entry.host_id for entry in known if _gave_up(entry, policy.name)]
    impossible = _impossible(policy, plans)
    if _enforces(policy):
        why = f" ({impossible})" if impossible else ""
        count = _hosts(len(plans))
        confirm(f"{policy.name} is not only to warn: agents that enforce will change {count}{why}. Apply it?", yes=yes)
    at_ms = time.time_ns() // 1_000_000
    new = PolicyEntry(name=policy.name, text=text, hash=_hash(text), priority=policy.priority, created_ms=at_ms)
    given = _change(url, lambda conn: store_policy.put_policy(conn, new, again=bool(again)), again)
    names = {one.host_id: one.hostname for one in known} | {one.host_id: one.hostname for one in plans}
    emit(_given(given, names), GIVEN, form, empty=f"stored; {nothing}" if nothing else "stored; no host changes")
    if note := impossible or (nothing if given else ""):
        print(clean(note), file=sys.stderr)


def _impossible(policy: Policy, plans: list[HostPlan]) -> str:
    """The first setting that a matching host cannot have, and how many more there are; "" when there is none."""
    found = [
        f"impossible on {one.hostname} {skip.target}: {skip.reason}"
        for one in plans
        for skip in one.plan.skips
        if skip.status is OutcomeStatus.FAILED
    ]
    more = f"; {len(found) - 1} more: `rackhand policy plan {policy.name}`" if len(found) > 1 else ""
    return found[0] + more if found else ""


def remove(url: str, name: str, form: Format, *, yes: bool) -> None:
    """Take it away and compile for all hosts in one transaction."""
    with reading(url) as conn:
        if store_policy.policy(conn, name) is None:
            raise Failure(Exit.NOT_FOUND, f"no stored policy {name!r}")
        names = {entry.host_id: entry.hostname for entry in store_policy.statuses(conn)}
    confirm(f"Remove policy {name}? Hosts keep what was applied.", yes=yes)
    given = _change(url, lambda conn: store_policy.remove_policy(conn, name, time.time_ns() // 1_000_000))
    emit(_given(given, names), GIVEN, form, empty=f"{name} is removed; no host had settings of it")


def _enforces(policy: Policy) -> bool:
    """Whether any part of it writes; a knob's own mode stands before the policy's."""
    modes = [knob.mode or policy.mode for knob in policy.knobs.values()] + [policy.mode] * bool(policy.preset)
    return any(mode is not Mode.WARN for mode in modes)


def _hash(text: str) -> str:
    import hashlib  # noqa: PLC0415

    return hashlib.sha256(text.encode()).hexdigest()


def _gave_up(entry: StatusEntry, policy: str) -> bool:
    """Whether the host will not try a setting of this policy any more."""
    outcomes = entry.reported.outcomes if entry.reported and entry.status != "pending" else []
    return any(outcome.policy == policy and outcome.status in GAVE_UP for outcome in outcomes)


def _change(url: str, change: "Callable[[Connection], bool]", again: Collection[str] = ()) -> list[Assigned]:
    """Change policies and compile for all hosts in one transaction; the documents that are new."""
    engine = open_engine(url)
    try:
        with writing(engine) as conn:
            change(conn)
            return [one for one in assign.assign(conn, again=again) if one.fresh]
    finally:
        engine.dispose()


def _given(given: list[Assigned], names: dict[str, str]) -> list[GivenLine]:
    return [
        GivenLine(
            names.get(one.desired.host_id, one.desired.host_id),
            one.desired.generation,
            len(one.desired.settings),
            one.desired.host_id,
        )
        for one in given
    ]


def show(url: str, name: str, form: Format) -> None:
    """The stored policies; of one, what came of it on every host."""
    with reading(url) as conn:
        if not name:
            emit(store_policy.policies(conn), POLICIES, form, empty="no policy is stored")
            return
        if store_policy.policy(conn, name) is None:
            raise Failure(Exit.NOT_FOUND, f"no stored policy {name!r}")
        lines = [
            line
            for entry in store_policy.statuses(conn)
            if (desired := store_policy.desired(conn, entry.host_id)) is not None
            for line in _status_lines(entry, [one for one in desired.settings if one.policy == name])
        ]
    emit(lines, STATUS, form, empty=f"no host has settings of {name}")


def _status_lines(entry: StatusEntry, settings: list[Setting]) -> list[StatusLine]:
    """One line per setting: what the host said of it, "pending" while it has not said anything of this generation."""
    heard = entry.reported if entry.status != "pending" else None
    outcomes = {(outcome.knob, outcome.nic): outcome for outcome in heard.outcomes} if heard else {}
    return [_status(entry, setting, outcomes.get((setting.knob, setting.nic))) for setting in settings]


def _why(outcome: Outcome) -> str:
    return outcome.reason or (f"measured: {told(outcome.effect)}" if outcome.effect else "")


def _status(entry: StatusEntry, setting: Setting, outcome: Outcome | None) -> StatusLine:
    reason = entry.reported.reason if entry.reported and entry.status != "pending" else ""
    return StatusLine(
        hostname=entry.hostname,
        status=entry.status,
        generation=entry.generation,
        knob=setting.knob,
        target=(outcome.target if outcome else "") or setting.nic or "host",
        outcome=outcome.status.value if outcome else "pending",
        reason=(_why(outcome) if outcome else "") or reason,
        policy=setting.policy,
        host_id=entry.host_id,
    )
