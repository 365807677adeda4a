"""What holds for every machine and every policy."""

from collections.abc import Callable
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from tests.tuners import facts_host, facts_keeping, facts_sriov, facts_steering, facts_traffic, facts_xdp
from tuners import topology
from tuners.about import Scope, Stage
from tuners.findings import findings
from tuners.hostfacts import HostFacts
from tuners.planner import LATER, plan, project
from tuners.registry import ALL
from wire.cpulist import format_cpulist, parse_cpulist, parse_cpumask
from wire.facts import Cpu, Fact, Irq, Numa, Queues, Softnet
from wire.policy import Change, FileWrite, IrqBan, Request, Setting, Value, Values, inverse

Make = Callable[..., list[Fact]]

SPEC_VALUES: dict[str, dict[str, st.SearchStrategy[Value]]] = {
    "channels": {name: st.sampled_from(["auto", "max"]) | st.integers(0, 20) for name in ("combined", "rx", "tx")},
    "rings": {name: st.just("max") | st.integers(1, 9000) for name in ("rx", "tx")},
    "offloads": {name: st.booleans() for name in ("gro", "lro", "tso", "ntuple", "rx-gro", "rxhash")},
    "coalesce": {
        **{name: st.booleans() for name in ("adaptive_rx", "adaptive_tx")},
        **{name: st.integers(0, 300) for name in ("rx_usecs", "tx_usecs", "rx_frames", "rx_usecs_low")},
        "per_queue": st.sampled_from(["0: tx_frames=8", "0: tx_frames=8; 1: tx_frames=0"]),
    },
    "irq_affinity": {
        "placement": st.sampled_from(["local", "spread", "list"]),
        "cpus": st.sets(st.integers(0, 15), min_size=1).map(format_cpulist),
    },
    "xps": {"mode": st.sampled_from(["auto", "off"])},
    "rps": {
        "mode": st.sampled_from(["auto", "off", "all"]),
        "flow_entries": st.integers(0, 70000),
        "accelerated": st.booleans(),
    },
    "auto": {
        "objective": st.sampled_from(["throughput", "latency", "pps", "balanced"]),
        **{name: st.integers(1, 20) for name in ("queues_min", "queues_max")},
        "rings_max": st.integers(1, 9000),
        "usecs_max": st.integers(0, 300),
    },
    **facts_steering.SPEC_VALUES,
    **facts_host.SPEC_VALUES,
    **facts_sriov.SPEC_VALUES,
    **facts_traffic.SPEC_VALUES,
    **facts_xdp.SPEC_VALUES,
    **facts_keeping.SPEC_VALUES,
}
HOST_KNOBS = {tuner.NAME for tuner in ALL if tuner.ABOUT.scope is Scope.HOST}


@st.composite
def values_of(draw: st.DrawFn, knob: str) -> Values:
    return draw(st.fixed_dictionaries({}, optional=SPEC_VALUES[knob]))


@st.composite
def hosts(draw: st.DrawFn, cpus: Make, nic: Make) -> tuple[HostFacts, list[Setting]]:
    """A machine of one to three nodes with any siblings, isolation and interrupts, and settings for its NICs."""
    count = draw(st.integers(1, 16))
    members = draw(st.permutations(range(count)))
    cut = sorted(draw(st.lists(st.integers(0, count), min_size=2, max_size=2)))
    nodes = [members[: cut[0]], members[cut[0] : cut[1]], members[cut[1] :]]
    pairs = [members[n : n + 2] for n in range(0, count, 2)] if draw(st.booleans()) else []
    isolated = format_cpulist(draw(st.sets(st.integers(0, count - 1))))
    facts = cpus(nodes=nodes, smt=pairs, isolated=isolated, nohz_full=draw(st.sampled_from(["", "1-2"])))
    affinity = st.sets(st.integers(0, count - 1), min_size=1).map(format_cpulist)
    wanted: list[Setting] = []
    for number in range(draw(st.integers(1, 3))):
        made = nic(
            ifname=f"eth{number}",
            base=100 * (number + 1),
            node=draw(st.sampled_from([None, 0, 1, 2, 7])),
            cpus=draw(st.lists(affinity, min_size=1, max_size=6)),
            driver=draw(st.sampled_from(["ice", "virtio_net", "ena", "mlx5_core", "ixgbe"])),
            split=draw(st.booleans()),
            managed=draw(st.booleans()),
        )
        facts += [_steered(fact, draw(affinity)) for fact in made]
        facts += draw(facts_traffic.facts_of(made))
        facts += draw(facts_steering.facts_of(made))
        facts += draw(facts_sriov.facts_of(made))
        facts += draw(facts_xdp.facts_of(made))
        knobs = [knob for knob in SPEC_VALUES if knob not in HOST_KNOBS and draw(st.booleans())]
        wanted += [Setting(knob=knob, nic=made[0].key, values=draw(values_of(knob))) for knob in knobs]
    facts += draw(facts_host.facts_of(count))
    facts += draw(facts_traffic.facts())
    facts += draw(facts_keeping.facts())
    host_knobs = [knob for knob in SPEC_VALUES if knob in HOST_KNOBS and draw(st.booleans())]
    wanted += [Setting(knob=knob, values=draw(values_of(knob))) for knob in host_knobs]
    soft = Softnet(
        rps_sock_flow_entries=draw(st.sampled_from([None, 0, 4096])),
        busy_read_us=draw(st.sampled_from([None, 0, 50])),
        irqbalance=draw(st.booleans()),
    )
    return HostFacts([*facts, *draw(facts_sriov.others()), soft]), wanted


def _steered(fact: Fact, cpus: str) -> Fact:
    if not isinstance(fact, Queues):
        return fact
    return structs.replace(fact, rps_cpus=[cpus] * len(fact.rps_cpus), rps_flow_cnt=[64] * len(fact.rps_cpus))


def current(facts: HostFacts, change: Change) -> object:
    """What the facts say of the thing a change is about, in the change's own terms."""
    known = [
        module.current(facts, change) for module in (facts_sriov, facts_host, facts_traffic, facts_xdp, facts_keeping)
    ]
    found = next((one for one in (facts_steering.current(facts.all(), change), *known) if one is not None), None)
    return _of_nic(facts, change) if found is None else found


def _of_nic(facts: HostFacts, change: Change) -> object:
    op = change.op
    if isinstance(op, Request):
        have: dict[str, Value] = getattr(facts.ethtool[change.nic], op.message)
        return {name: have[name] for name in op.before}
    if isinstance(op, IrqBan):
        return facts.softnet.banned_irqs if facts.softnet else None
    parts = op.path.split("/")
    if parts[2] == "irq":
        queues = {queue.irq: queue for irq in facts.irq.values() for queue in irq.queues}
        return queues[int(parts[3])].cpus
    if parts[2] == "sys":
        return str(facts.softnet.rps_sock_flow_entries) if facts.softnet else None
    value = getattr(facts.queues[change.nic], parts[-1])[int(parts[-2].partition("-")[2])]
    return str(value) if isinstance(value, int) else parse_cpulist(value)


def test_every_knob_has_values_to_try() -> None:
    assert set(SPEC_VALUES) == {tuner.NAME for tuner in ALL}


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_plan_over_its_own_result_is_empty(cpus: Make, nic: Make, data: st.DataObject) -> None:
    facts, wanted = data.draw(hosts(cpus, nic))
    made = plan(wanted, facts)
    waits = {(skip.knob, skip.nic) for skip in made.skips if skip.reason == LATER}
    waits |= {(knob, "") for knob, _ in waits}  # what they bring along for the host
    facts = project(facts, made)
    freed = plan(wanted, facts)  # what another knob was in the way of
    changed = {place(change) for change in made.changes}
    assert [one for one in freed.changes if place(one) in changed and (one.knob, one.nic) not in waits] == []
    left = plan(wanted, project(facts, freed)).changes
    assert [change for change in left if (change.knob, change.nic) not in waits] == []


def place(change: Change) -> tuple[object, ...]:
    op = change.op
    if isinstance(op, Request):
        return (op.message, op.ifindex, op.item, *sorted(op.after))
    return (op.path, op.ifindex) if isinstance(op, FileWrite) else ("irqbalance",)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_stage_by_stage_ends_in_the_same_quiet(cpus: Make, nic: Make, data: st.DataObject) -> None:
    facts, wanted = data.draw(hosts(cpus, nic))
    for stage in (*Stage, *Stage):
        facts = project(facts, plan(wanted, facts, stage))
    assert plan(wanted, facts).changes == []


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_the_order_of_facts_and_settings_does_not_matter(cpus: Make, nic: Make, data: st.DataObject) -> None:
    facts, wanted = data.draw(hosts(cpus, nic))
    shuffled = facts.all()
    Random(1).shuffle(shuffled)  # noqa: S311
    assert plan(wanted[::-1], HostFacts(shuffled)) == plan(wanted, facts)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_work_is_put_on_isolated_cpus(cpus: Make, nic: Make, data: st.DataObject) -> None:
    facts, wanted = data.draw(hosts(cpus, nic))
    shut = topology.isolated(facts)
    for change in plan(wanted, facts).changes:
        if isinstance(change.op, FileWrite) and change.knob == "irq_affinity":
            assert not shut.intersection(parse_cpulist(change.op.after))
        if isinstance(change.op, FileWrite) and change.op.path.endswith("rps_cpus"):
            assert not shut.intersection(parse_cpumask(change.op.after))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_every_change_starts_from_what_is_and_can_be_undone(cpus: Make, nic: Make, data: st.DataObject) -> None:
    facts, wanted = data.draw(hosts(cpus, nic))
    for stage in Stage:  # within a stage each thing is changed once
        made = plan(wanted, facts, stage)
        for change in made.changes:
            is_mask = isinstance(change.op, FileWrite) and change.op.path.endswith("ps_cpus")
            before = parse_cpumask(str(change.op.before)) if is_mask else change.op.before
            assert before == current(facts, change)
            assert change.op.before != change.op.after
            assert inverse(inverse(change.op)) == change.op
            assert inverse(change.op).after == change.op.before
        facts = project(facts, made)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_with_xps_every_online_cpu_has_a_queue(cpus: Make, nic: Make, data: st.DataObject) -> None:
    facts, _ = data.draw(hosts(cpus, nic))
    wanted = [Setting(knob="xps", nic=key, values={"mode": "auto"}) for key in facts.nics]
    after = project(facts, plan(wanted, facts))
    for fact in after.queues.values():
        if fact.xps_cpus is not None:
            assert {cpu for cpus in fact.xps_cpus for cpu in parse_cpulist(cpus)} == topology.online(facts)
            assert all(fact.xps_cpus)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), text=st.sampled_from(["x", "3-1", "0-99999", "-1", "0,,1", "0-3:0"]))
def test_lists_of_cpus_that_are_none_stop_no_one(cpus: Make, nic: Make, data: st.DataObject, text: str) -> None:
    facts, wanted = data.draw(hosts(cpus, nic))
    spoilt: list[Fact] = []
    for fact in facts.all():
        if isinstance(fact, Cpu):
            spoilt.append(
                structs.replace(fact, **{data.draw(st.sampled_from(["online", "isolated", "nohz_full"])): text})
            )
        elif isinstance(fact, Numa):
            spoilt.append(structs.replace(fact, cpus=text))
        elif isinstance(fact, Irq):
            spoilt.append(structs.replace(fact, queues=[structs.replace(each, cpus=text) for each in fact.queues]))
        elif isinstance(fact, Queues):
            spoilt.append(structs.replace(fact, rps_cpus=[text], xps_cpus=[text, text]))
    ill = facts.replace(data.draw(st.lists(st.sampled_from(spoilt), min_size=1)))
    plan(wanted, ill)
    findings(ill)
