"""From policies to what each host is to be: compiled from SQL alone, numbered, stored; the loop publishes it.

Whoever changes a policy compiles in the same transaction; whoever runs the loop notices by `revision` and publishes.
A host gets its first document when a policy first says something about it, and a new generation when that changes.
"""

import time
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from hwdb import store_policy
from hwdb.db import rows
from hwdb.facts import HostView, read_hosts
from tuners.planner import plan as plan_settings
from tuners.policy import Policy, compile_settings, matches, parse_policy
from wire.codec import decode
from wire.policy import DESIRED, Desired, Plan, Setting, content_hash

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from hwdb.db import Conn

CONFIRM_S = 60  # where no policy says otherwise


class Revision(NamedTuple):
    """Changes whenever a policy is added, replaced or removed."""

    newest: int
    removed_ms: int
    active: int


class Assigned(NamedTuple):
    """What a host is to be; `fresh` when that is a new generation."""

    site: str
    desired: Desired
    fresh: bool


class HostPlan(msgspec.Struct, kw_only=True):
    """What a set of policies would change on one host."""

    host_id: str
    hostname: str
    settings: list[Setting]
    plan: Plan


def revision(conn: "Conn") -> Revision:
    """What to compare with, to notice that somebody changed a policy."""
    sql = "SELECT max(id), max(removed_ms), sum(CASE WHEN removed_ms IS NULL THEN 1 ELSE 0 END) FROM policy"
    newest, removed, active = rows(conn, sql)[0]
    return Revision(newest or 0, removed or 0, int(active or 0))


def policies(conn: "Conn") -> list[Policy]:
    """The stored policies, by name; they were checked when they were stored."""
    return [parse_policy(entry.text) for entry in store_policy.policies(conn)]


def assign(conn: "Connection", host_ids: Iterable[str] | None = None, again: Collection[str] = ()) -> list[Assigned]:
    """The document of each of the hosts (None: all) that has one, compiled anew and stored where it differs.

    Hosts in `again` get a new generation of the same content: they gave the old one up. Runs in the caller's writing
    transaction.
    """
    active, at_ms = policies(conn), time.time_ns() // 1_000_000
    documents: list[Assigned] = []
    for target in read_hosts(conn, host_ids if active else _with_documents(conn, host_ids)):
        stored = decode(DESIRED, target.desired.encode()) if target.desired else None
        desired = compile_for(active, target, stored, again=target.host_id in again)
        if desired is None:
            continue
        if desired is not stored:
            store_policy.put_desired(conn, desired, at_ms)
        documents.append(Assigned(target.site, desired, fresh=desired is not stored))
    return documents


def _with_documents(conn: "Conn", host_ids: Iterable[str] | None) -> set[str]:
    """Without a policy only hosts that have a document can get another one."""
    known = {row[0] for row in rows(conn, "SELECT host_id FROM host WHERE desired_generation > 0")}
    return known if host_ids is None else known & set(host_ids)


def compile_for(
    active: Sequence[Policy], target: HostView, stored: Desired | None, *, again: bool = False
) -> Desired | None:
    """The document the policies make for a host: the stored one while it says the same, None while none was needed."""
    settings = compile_settings(active, target.labels, target.facts)
    if stored is None and not settings:
        return None
    hashed, confirm_s = content_hash(settings), _confirm_s(active, target)
    if stored and not again and (stored.hash, stored.confirm_s) == (hashed, confirm_s):
        return stored
    generation = stored.generation + 1 if stored else 1
    return Desired(host_id=target.host_id, generation=generation, hash=hashed, settings=settings, confirm_s=confirm_s)


def _confirm_s(active: Sequence[Policy], target: HostView) -> int:
    """The shortest of those the matching policies ask for: the strictest wins."""
    asked = (policy.confirm_within_s for policy in active if matches(policy, target.labels, target.facts))
    return min(asked, default=CONFIRM_S)


def preview(conn: "Conn", policy: Policy, host_ids: Iterable[str] | None = None) -> list[HostPlan]:
    """What hosts would come to with `policy` in the place of the stored one of its name; only hosts it matches."""
    active = [other for other in policies(conn) if other.name != policy.name] + [policy]
    made: list[HostPlan] = []
    for target in read_hosts(conn, host_ids):
        if matches(policy, target.labels, target.facts):
            settings = compile_settings(active, target.labels, target.facts)
            mine = [setting for setting in settings if setting.policy == policy.name]
            made.append(
                HostPlan(
                    host_id=target.host_id,
                    hostname=target.hostname,
                    settings=mine,
                    plan=only(plan_settings(settings, target.facts), policy.name),
                )
            )
    return made


def only(plan: Plan, policy: str) -> Plan:
    """The part of a plan that one policy asked for."""
    return Plan(
        changes=[change for change in plan.changes if change.policy == policy],
        skips=[skip for skip in plan.skips if skip.policy == policy],
    )
