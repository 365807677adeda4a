"""Who else sets what a change would set, and what comes of that by the setting's mode.

enforce: the change is made and its reason names them; warn: it is told, as ever; yield: it is left to them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from msgspec import structs

from tuners.hostfacts import HostFacts
from tuners.offloads import ALIASES
from wire.facts import Claim, Owner, Sysctl
from wire.policy import Change, FileWrite, IrqBan, Mode, OutcomeStatus, Request, Setting, Skip

# What a claim is about -> the knob that sets the same; the whole of it first, then its first word.
KNOBS = {
    **{"rings": "rings", "channels": "channels", "coalesce": "coalesce", "features": "offloads"},
    **{"pause": "link", "link": "link", "irq affinity": "irq_affinity", "napi": "napi", "qdisc": "qdisc"},
    **{"queues rps_cpus": "rps", "queues rps_flow_cnt": "rps", "queues xps_cpus": "xps", "queues xps_rxqs": "xps"},
    **{"cpu": "cpu_power", "memory": "numa_memory", "placement": "core_pinning"},
    **{"sriov": "sriov", "watchdog": "watchdog"},
}
# The kernel's files for what a claim calls by a shorter name.
_FILES = {
    "governor": "scaling_governor",
    "epp": "energy_performance_preference",
    "epb": "energy_perf_bias",
    "latency": "pm_qos_resume_latency_us",
    "min_perf_pct": "min_perf_pct",
    "max_perf_pct": "max_perf_pct",
    "turbo": "no_turbo",
    "txqueuelen": "tx_queue_len",
    "thp": "enabled",
    **{name: name for name in ("rps_cpus", "rps_flow_cnt", "xps_cpus", "xps_rxqs", "threaded", "gro_flush_timeout")},
    "napi_defer_hard_irqs": "napi_defer_hard_irqs",
}
_SAME = {"true": "on", "yes": "on", "1": "on", "false": "off", "no": "off", "0": "off"}
_MOST_TOLD = 2
_SYSCTLS = "/proc/sys/"


class Other(NamedTuple):
    """Somebody else, and one value of theirs."""

    name: str
    claim: Claim

    def __str__(self) -> str:
        value = f" to {self.claim.value}" if self.claim.value else ""
        source = f" ({self.claim.source})" if self.claim.source else ""
        return f"{self.name} sets {self.claim.what}{value}{source}"


class Others:
    """The claims of a host, by knob."""

    def __init__(self, facts: HostFacts) -> None:
        self._facts = facts
        self._knobs: dict[str, list[Other]] = {}
        self._files: list[Other] = []
        self._sysctls: dict[str, list[Other]] = {}
        for other in claims(facts):
            self._add(other)

    def _add(self, other: Other) -> None:
        subject, _, name = other.claim.what.partition(" ")
        knob = KNOBS.get(other.claim.what, KNOBS.get(subject, ""))
        if subject == "sysctl":
            self._sysctls.setdefault(_SYSCTLS + name.replace(".", "/"), []).append(other)
        elif subject == "file":
            self._files.append(other)
        elif knob:
            self._knobs.setdefault(knob, []).append(other)

    def of(self, change: Change) -> list[Other]:
        """Who sets what this change would set, to something else."""
        op = change.op
        if isinstance(op, IrqBan):
            return []
        found = [one for one in self._knobs.get(change.knob, ()) if one.claim.nic in ("", change.nic)]
        found = [one for one in found if _meets(one.claim, op) and not self._left_alone(one, op)]
        if isinstance(op, FileWrite):
            theirs = [one for one in self._sysctls.get(op.path, ()) if not _same(one.claim.value, op.after)]
            found += [one for one in theirs if (one.name, change.knob) != (SYSCTL_D, "sysctl_net")]  # it says so itself
            if self._files:
                path = op.path.replace("{ifname}", self._ifname(change.nic))
                found += [one for one in self._files if fnmatchcase(path, one.claim.what.removeprefix("file "))]
        return found

    def _left_alone(self, other: Other, op: FileWrite | Request) -> bool:
        """irqbalance keeps its hands off this interrupt."""
        soft = self._facts.softnet
        if other.name != IRQBALANCE or soft is None or not isinstance(op, FileWrite):
            return False
        return any(op.path == f"/proc/irq/{irq}/smp_affinity_list" for irq in soft.banned_irqs)

    def _ifname(self, nic: str) -> str:
        return self._facts.nics[nic].ifname if nic in self._facts.nics else "*"

    def settle(self, changes: Iterable[Change], settings: Sequence[Setting], skips: list[Skip]) -> list[Change]:
        """The changes that are to be made, with the others in their reasons; what is left to them joins `skips`."""
        modes = {setting.nic: setting.mode for setting in settings}
        all_yield = bool(settings) and all(setting.mode is Mode.YIELD for setting in settings)
        kept: list[Change] = []
        for change in changes:
            others = self.of(change)
            mode = modes.get(change.nic, Mode.YIELD if all_yield else Mode.ENFORCE)
            if others and mode is Mode.YIELD:
                skips.append(_left_to(change, others))
            else:
                kept.append(_told(change, others, mode))
        return kept


IRQBALANCE = "irqbalance"
SYSCTL_D = "sysctl.d"


def claims(facts: HostFacts) -> Iterator[Other]:
    """Every value that somebody else sets on this host."""
    if facts.softnet is not None and facts.softnet.irqbalance:
        yield Other(IRQBALANCE, Claim(what="irq affinity"))
    for owner in facts.of(Owner):
        name = f"{owner.name} ({owner.profile})" if owner.profile else owner.name
        yield from (Other(name, claim) for claim in owner.claims)
    for sysctl in facts.of(Sysctl):
        for key, by in sysctl.owners.items():
            yield Other(SYSCTL_D, Claim(what=f"sysctl {key}", value=by.value, source=by.path))


def _meets(claim: Claim, op: FileWrite | Request) -> bool:
    """Whether the claim is about what the op sets, and says otherwise; of a name that is not known it is."""
    name = claim.what.partition(" ")[2]
    if isinstance(op, FileWrite):
        file = _FILES.get(name, "")
        return not file or (op.path.rpartition("/")[2] == file and not _same(claim.value, op.after))
    names = ALIASES.get(name, (name,)) if op.message == "features" else (name,)
    return name == "*" or any(one in op.after and not _same(claim.value, str(op.after[one])) for one in names)


def _same(theirs: str, ours: str) -> bool:
    """Whether two texts are one value; theirs may be a lower bound (">2048", TuneD's word for raise only)."""
    bound = theirs.lstrip("=").removeprefix(">")
    if bound != theirs.lstrip("=") and bound.isdecimal() and ours.isdecimal():
        return int(ours) >= int(bound)
    one, other = (" ".join(text.lower().split()) for text in (theirs, ours))
    return bool(one) and _SAME.get(one, one) == _SAME.get(other, other)


def _words(others: Sequence[Other]) -> str:
    more = f" and {len(others) - _MOST_TOLD} more" if len(others) > _MOST_TOLD else ""
    return ", ".join(map(str, others[:_MOST_TOLD])) + more


def _left_to(change: Change, others: Sequence[Other]) -> Skip:
    return Skip(
        knob=change.knob,
        target=change.target,
        reason=f"left to them: {_words(others)}",
        nic=change.nic,
        policy=change.policy,
        status=OutcomeStatus.YIELDED,
    )


def _told(change: Change, others: Sequence[Other], mode: Mode) -> Change:
    """The change, with the others in its reason; irqbalance is told itself, by a change of its own."""
    if mode is Mode.ENFORCE:
        others = [other for other in others if other.name != IRQBALANCE]
    if not others:
        return change
    return structs.replace(change, reason="; ".join(filter(None, (change.reason, f"but {_words(others)}"))))


def contested(facts: HostFacts) -> Iterator[tuple[str, str, list[Other]]]:
    """Values that two others set differently: what, the NIC's key, and who."""
    groups: dict[str, list[Other]] = {}
    for other in claims(facts):
        groups.setdefault(other.claim.what, []).append(other)
    for what, group in sorted(groups.items()):
        for nic in sorted({other.claim.nic for other in group}):
            rivals = _rivals([other for other in group if other.claim.nic in ("", nic)])
            if len(rivals) > 1 and any(other.claim.nic == nic for other in rivals.values()):
                yield what, nic, list(rivals.values())


def _rivals(group: Sequence[Other]) -> Mapping[str, Other]:
    """One claim per owner, when they do not all say the same."""
    by_name = {other.name: other for other in group}
    first = next(iter(by_name.values()))
    alike = all(_same(other.claim.value, first.claim.value) for other in by_name.values())
    return {} if alike else by_name
