"""Which CPUs share a receive queue's work in software (RPS), and how many flows follow their reader (RFS)."""

from collections.abc import Iterable, Sequence

from tuners import projection, topology
from tuners.about import About, Stage
from tuners.hostfacts import HostFacts
from tuners.irq_affinity import pinned
from tuners.knob import Spec, Step, impossible, queue_mask, queue_write, skip, whole
from tuners.projection import SOCK_FLOW_ENTRIES
from tuners.rounding import power_up
from wire.facts import Nic, Ntuple, Queues
from wire.policy import Change, FileWrite, Mode, Setting

NAME = "rps"
ABOUT = About(
    stage=Stage.PLACE,
    what="which CPUs share a receive queue's work",
    interface="queues/rx-N/rps_cpus, rps_flow_cnt, net.core.rps_sock_flow_entries",
    unit="CPU mask, flows",
    undo="the mask and count before; the host's table is left as large as it is",
    facts=("nic", "queues", "irq", "cpu", "numa", "softnet", "ethtool", "ntuple"),
    quirks="the kernel takes isolated CPUs out of the mask in silence; on ice aRFS and flow rules share their filters",
)
VALUES: dict[str, Spec] = {
    "mode": Spec(str, "where queues are fewer than cores, never, or over every CPU", words=("auto", "off", "all")),
    "flow_entries": Spec(int, "flows of the host's RFS table, a power of two; 0 is off", 0, 1 << 22),
    "accelerated": Spec(bool, "the NIC steers flows to their readers itself (aRFS), or the setting fails"),
}
# Drivers with ndo_rx_flow_steer and an rx_cpu_rmap (Linux 6.18); of those in _SHARED flow rules and aRFS share filters.
_ACCELERATED = (
    "bnxt_en",
    "enic",
    "hns3",
    "ice",
    "idpf",
    "mlx4_core",
    "mlx4_en",
    "mlx5_core",
    "qede",
    "sfc",
    "sfc-siena",
)
_SHARED = ("ice",)

project = projection.steering


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """The host's flow table first (raised only), then rps_cpus and rps_flow_cnt of the queues that differ."""
    yield from _table(settings, facts)
    for setting in settings:
        nic, fact = facts.nics[setting.nic], facts.queues.get(setting.nic)
        if fact is None or not fact.rps_cpus:
            yield skip(setting, nic.ifname, "unsupported: it has no receive queues to steer")
        else:
            yield from _masks(setting, nic, fact, facts)
            yield from _flows(setting, fact, facts)
            yield from _accelerated(setting, nic, facts)


def _accelerated(setting: Setting, nic: Nic, facts: HostFacts) -> Iterable[Step]:
    """The NIC steers by itself once ntuple is on and flows are counted: what of that is not so, in words."""
    if setting.values.get("accelerated") and (reason := _not_accelerated(setting, nic, facts)):
        yield impossible(setting, f"{nic.ifname} accelerated", reason)


def _not_accelerated(setting: Setting, nic: Nic, facts: HostFacts) -> str:
    ethtool, irq = facts.ethtool.get(nic.key), facts.irq.get(nic.key)
    feature = "rx-ntuple-filter"
    homes = {pinned(queue) for queue in (irq.queues if irq else []) if queue.rx} - {None}
    rules = [rule for fact in facts.of(Ntuple) if fact.key == nic.key for rule in fact.rules]
    if nic.driver not in _ACCELERATED:
        return f"the driver {nic.driver or 'of this interface'} has no accelerated RFS"
    if not whole(setting.values, "flow_entries"):
        return "it needs flow_entries, which is not set, or 0"
    if nic.driver in _SHARED and rules:
        return f"{nic.driver} shares its filters with {len(rules)} flow rules: take them away, or leave it off"
    if ethtool is None or not ethtool.features.get(feature):
        return f"{feature} is off: offloads: {{ntuple: true}} turns it on"
    if len(homes) < 2:
        return "the interrupts are on one CPU or on no certain ones: irq_affinity comes first"
    return ""


def _table(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Change]:
    steered = (setting for setting in settings if setting.nic in facts.queues and facts.queues[setting.nic].rps_cpus)
    wanted = max((_entries(setting) for setting in steered if setting.mode is not Mode.WARN), default=0)
    current = facts.softnet.rps_sock_flow_entries if facts.softnet else None
    if current is not None and current < wanted:
        op = FileWrite(SOCK_FLOW_ENTRIES, str(current), str(wanted))
        yield Change(knob=NAME, target="host", op=op, reason="the largest table a policy asks for; never lowered")


def _entries(setting: Setting) -> int:
    entries = whole(setting.values, "flow_entries")
    return power_up(entries) if entries else 0  # the kernel rounds up


def _masks(setting: Setting, nic: Nic, fact: Queues, facts: HostFacts) -> Iterable[Change]:
    if "mode" not in setting.values:
        return
    wanted, reason = _wanted(setting, nic, fact, facts)
    for number, text in enumerate(fact.rps_cpus):
        before = set(topology.cpu_ids(text))
        if before != wanted[number]:
            yield queue_mask(setting, fact, f"rx-{number}/rps_cpus", (before, wanted[number]), reason)


def _wanted(setting: Setting, nic: Nic, fact: Queues, facts: HostFacts) -> tuple[list[set[int]], str]:
    count = len(fact.rps_cpus)
    near = topology.local(facts, nic)
    if setting.values["mode"] == "all":
        return [topology.housekeeping(facts)] * count, "every housekeeping CPU"
    if setting.values["mode"] == "off" or count >= topology.cores(facts, near):
        return [set[int]()] * count, "off" if setting.values["mode"] == "off" else "a queue for every core near it"
    homes = _homes(nic, facts)
    masks = [_mask(homes.get(number), set(near), bool(_entries(setting)), facts) for number in range(count)]
    return masks, "fewer queues than cores: the CPUs that share memory with the interrupt's"


def _homes(nic: Nic, facts: HostFacts) -> dict[int, int | None]:
    fact = facts.irq.get(nic.key)
    return {n: pinned(queue) for queue in (fact.queues if fact else []) for n in queue.rx}


def _mask(home: int | None, near: set[int], follows: bool, facts: HostFacts) -> set[int]:
    """The memory domain of the interrupt's CPU, without that CPU unless flows follow their readers."""
    domain = near if home is None else topology.domain(facts, home) or near
    return domain if follows else (domain - {home} or domain)


def _flows(setting: Setting, fact: Queues, facts: HostFacts) -> Iterable[Step]:
    if "flow_entries" not in setting.values:
        return
    if facts.softnet is None or facts.softnet.rps_sock_flow_entries is None:
        yield skip(setting, f"{fact.ifname} flow_entries", "the kernel has no flow table")
        return
    entries = _entries(setting)
    wanted = power_up(max(1, entries // len(fact.rps_cpus))) if entries else 0
    for number, current in enumerate(fact.rps_flow_cnt):
        if current != wanted:
            reason = f"{entries} flows over {len(fact.rps_flow_cnt)} queues"
            yield queue_write(setting, fact, f"rx-{number}/rps_flow_cnt", (str(current), str(wanted)), reason)
