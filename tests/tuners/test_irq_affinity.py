"""Which CPU serves which interrupt, on the shapes of machine that real tools got wrong."""

from collections import Counter
from collections.abc import Callable

import pytest

from tuners.hostfacts import HostFacts
from tuners.planner import plan, project
from wire.cpulist import parse_cpulist
from wire.facts import Fact, Irq, Queue
from wire.policy import Blast, FileWrite, IrqBan, Mode, OutcomeStatus, Setting

Make = Callable[..., list[Fact]]
Host = Callable[..., HostFacts]
ETH0, ETH1 = "52:54:00:00:00:03", "52:54:00:00:00:04"


def placed(facts: HostFacts, *settings: Setting) -> dict[int, str]:
    """IRQ -> CPU list after the plan, having checked that a second plan is empty."""
    wanted = list(settings) or [Setting(knob="irq_affinity", nic=key, values={}) for key in facts.irq]
    after = project(facts, plan(wanted, facts))
    assert plan(wanted, after).changes == []
    return {queue.irq: queue.cpus for fact in after.irq.values() for queue in fact.queues}


def test_each_queue_gets_a_cpu_of_the_nics_node(host: Host, cpus: Make, nic: Make) -> None:
    assert set(placed(host(cpus(), nic(node=1))).values()) == {"4", "5", "6", "7"}


def test_cpu_0_is_taken_last(host: Host, cpus: Make, nic: Make) -> None:
    assert set(placed(host(cpus(), nic(cpus=["0-7"] * 3))).values()) == {"1", "2", "3"}


def test_whole_cores_before_siblings(host: Host, cpus: Make, nic: Make) -> None:
    smt = [(n, n + 4) for n in range(4)]
    machine = cpus(nodes=[range(8)], smt=smt)
    cores = [int(cpu) % 4 for cpu in placed(host(machine, nic(cpus=["0-7"] * 4))).values()]
    assert sorted(cores) == [0, 1, 2, 3]


def test_with_smt_off_every_cpu_is_a_core(host: Host, cpus: Make, nic: Make) -> None:
    machine = cpus(nodes=[range(0, 8, 2)])
    assert set(placed(host(machine, nic())).values()) == {"0", "2", "4", "6"}


def test_caches_are_filled_in_turn(host: Host, cpus: Make, nic: Make) -> None:
    machine = cpus(nodes=[range(8)], llc=[range(4), range(4, 8)])
    first, second = sorted(int(cpu) for cpu in placed(host(machine, nic(cpus=["0-7"] * 2))).values())
    assert (first // 4, second // 4) == (0, 1)


@pytest.mark.parametrize("kind", ["isolated", "nohz_full"])
def test_isolated_cpus_never(host: Host, cpus: Make, nic: Make, kind: str) -> None:
    machine = cpus(**{kind: "1-3"})
    assert set(placed(host(machine, nic())).values()) == {"0"}


def test_a_node_that_is_all_isolated_falls_to_the_nearest_node_with_the_reason(
    host: Host, cpus: Make, nic: Make
) -> None:
    facts = host(cpus(nodes=[(0, 1), (2, 3), (4, 5)], isolated="4-5"), nic(node=2, cpus=["0-5"] * 2))
    made = plan([Setting(knob="irq_affinity", nic=ETH0, values={})], facts)
    assert {change.op.after for change in made.changes if isinstance(change.op, FileWrite)} == {"2", "3"}
    assert all("node 2 has no housekeeping CPU" in change.reason for change in made.changes)


def test_every_cpu_isolated_is_refused_not_forced(host: Host, cpus: Make, nic: Make) -> None:
    made = plan([Setting(knob="irq_affinity", nic=ETH0, values={})], host(cpus(isolated="0-7"), nic()))
    assert made.changes == []
    assert [skip.status for skip in made.skips] == [OutcomeStatus.FAILED]


def test_a_node_without_cpus_gets_no_interrupt(host: Host, cpus: Make, nic: Make) -> None:
    facts = host(cpus(nodes=[(0, 1), (), (2, 3)]), nic(node=1, cpus=["0-3"] * 2))
    assert set(placed(facts).values()) <= {"0", "1", "2", "3"}


def test_an_unknown_node_uses_every_cpu_not_node_0(host: Host, cpus: Make, nic: Make) -> None:
    assert set(placed(host(cpus(), nic(node=None, cpus=["0-7"] * 8))).values()) == set("01234567")


def test_offline_cpus_are_holes(host: Host, cpus: Make, nic: Make) -> None:
    assert set(placed(host(cpus(offline=(1, 2)), nic())).values()) == {"0", "3"}


def test_more_than_64_cpus(host: Host, cpus: Make, nic: Make) -> None:
    machine = cpus(nodes=[range(0, 192, 2), range(1, 192, 2)])
    found = placed(host(machine, nic(node=1, cpus=["0-191"] * 96)))
    assert sorted(int(cpu) for cpu in found.values()) == list(range(1, 192, 2))


def test_snc_nodes_of_one_package(host: Host, cpus: Make, nic: Make) -> None:
    machine = cpus(nodes=[(0, 1, 2, 5, 6), (3, 4, 7, 8, 9)])
    assert set(placed(host(machine, nic(node=1))).values()) <= {"3", "4", "7", "8", "9"}


def test_two_nics_of_a_node_do_not_stack(host: Host, cpus: Make, nic: Make) -> None:
    facts = host(cpus(), nic(cpus=["0-7"] * 2), nic(ifname="eth1", base=200, cpus=["0-7"] * 2))
    assert sorted(placed(facts).values()) == ["0", "1", "2", "3"]


def test_a_nic_without_a_setting_still_counts_as_load(host: Host, cpus: Make, nic: Make) -> None:
    facts = host(cpus(), nic(cpus=["1", "2"]), nic(ifname="eth1", base=200, cpus=["0-7"] * 2))
    found = placed(facts, Setting(knob="irq_affinity", nic=ETH1, values={}))
    assert {found[200], found[201]} == {"0", "3"}


def test_more_queues_than_cpus_are_spread_evenly(host: Host, cpus: Make, nic: Make) -> None:
    counts = Counter(placed(host(cpus(), nic(cpus=["0-7"] * 10))).values())
    assert sorted(counts.values()) == [2, 2, 3, 3]


def test_both_interrupts_of_a_pair_share_a_cpu(host: Host, cpus: Make, nic: Make) -> None:
    found = placed(host(cpus(), nic(driver="virtio_net", split=True)))
    assert [found[100 + 2 * n] for n in range(4)] == [found[101 + 2 * n] for n in range(4)]
    assert len(set(found.values())) == 4


def test_what_is_well_placed_stays(host: Host, cpus: Make, nic: Make) -> None:
    facts = host(cpus(), nic(cpus=["3", "0", "2", "1"]))
    assert plan([Setting(knob="irq_affinity", nic=ETH0, values={})], facts).changes == []


def test_only_what_crowds_a_cpu_moves(host: Host, cpus: Make, nic: Make) -> None:
    made = plan([Setting(knob="irq_affinity", nic=ETH0, values={})], host(cpus(), nic(cpus=["3", "3", "2", "1"])))
    assert [change.op for change in made.changes] == [FileWrite("/proc/irq/100/smp_affinity_list", "3", "0")]


def test_managed_interrupts_are_unsupported(host: Host, cpus: Make, nic: Make) -> None:
    made = plan([Setting(knob="irq_affinity", nic=ETH0, values={})], host(cpus(), nic(managed=True)))
    assert made.changes == []
    assert [(skip.status, skip.reason) for skip in made.skips] == [
        (OutcomeStatus.UNSUPPORTED, "4 of 4 interrupts are placed by the kernel")
    ]


def test_unmapped_interrupts_are_never_guessed(host: Host, cpus: Make, nic: Make) -> None:
    made = plan([Setting(knob="irq_affinity", nic=ETH0, values={})], host(cpus(), nic(source="unmapped")))
    assert made.changes == []
    assert made.skips[0].reason.startswith("unmapped")


def test_an_interrupt_of_two_nics_is_placed_once(host: Host, cpus: Make, nic: Make) -> None:
    shared = [
        Irq(key=fact.key, ifname=fact.ifname, source=fact.source, queues=[Queue(irq=9, rx=[0], tx=[0], cpus="0-7")])
        if isinstance(fact, Irq)
        else fact
        for fact in [*nic(cpus=["0-7"]), *nic(ifname="eth1", base=200, cpus=["0-7"])]
    ]
    facts = host(cpus(), shared)
    settings = [Setting(knob="irq_affinity", nic=key, values={}) for key in (ETH0, ETH1)]
    made = plan(settings, facts)
    assert len(made.changes) == 1
    assert [skip.reason for skip in made.skips] == ["1 of 1 interrupts are shared with another NIC"]
    after = project(facts, made)
    assert after.irq[ETH0].queues == after.irq[ETH1].queues != facts.irq[ETH1].queues
    placed(facts)


def test_control_vectors_move_only_off_isolated_cpus(host: Host, cpus: Make, nic: Make) -> None:
    def with_control(on: str) -> HostFacts:
        facts = host(cpus(isolated="2-3"), nic(cpus=["0", "1"]))
        queues = [*facts.irq[ETH0].queues, Queue(irq=99, control=True, cpus="0-7", effective=on)]
        return facts.replace([Irq(key=ETH0, ifname="eth0", source="netdev-genl", queues=queues)])

    setting = Setting(knob="irq_affinity", nic=ETH0, values={})
    assert plan([setting], with_control("4")).changes == []
    made = plan([setting], with_control("3"))
    assert [change.op for change in made.changes] == [FileWrite("/proc/irq/99/smp_affinity_list", "0-7", "0-1,4-7")]
    assert placed(with_control("3"))[99] == "0-1,4-7"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"placement": "list", "cpus": "2,6"}, {"2", "6"}),
        ({"cpus": "2,6"}, {"2", "6"}),
        ({"placement": "local", "cpus": "2-5"}, {"2", "3"}),
        ({"placement": "spread"}, {"0", "1", "2", "3", "4", "5", "6", "7"}),
    ],
)
def test_placements(host: Host, cpus: Make, nic: Make, values: dict[str, str | int | bool], expected: set[str]) -> None:
    facts = host(cpus(), nic(cpus=["0-7"] * 8))
    assert set(placed(facts, Setting(knob="irq_affinity", nic=ETH0, values=values)).values()) == expected


@pytest.mark.parametrize("values", [{"cpus": "2-3"}, {"cpus": "50"}, {"placement": "list"}])
def test_a_list_without_a_usable_cpu_fails(
    host: Host, cpus: Make, nic: Make, values: dict[str, str | int | bool]
) -> None:
    made = plan([Setting(knob="irq_affinity", nic=ETH0, values=values)], host(cpus(isolated="2-3"), nic()))
    assert (made.changes, [skip.status for skip in made.skips]) == ([], [OutcomeStatus.FAILED])


def test_all_queues_on_one_cpu_by_policy_may_starve_it(host: Host) -> None:
    made = plan([Setting(knob="irq_affinity", nic=ETH0, values={"cpus": "2"})], host())
    assert {change.blast for change in made.changes} == {Blast.STARVATION}


def test_irqbalance_is_told_the_whole_list_before_the_first_write(host: Host, cpus: Make, nic: Make) -> None:
    facts = host(cpus(), nic(), irqbalance=True)
    assert facts.softnet is not None
    facts.softnet.banned_irqs = [7]
    made = plan([Setting(knob="irq_affinity", nic=ETH0, values={})], facts)
    assert made.changes[0].op == IrqBan([7], [7, 100, 101, 102, 103])
    assert len(made.changes) == 5
    placed(facts)


def test_a_setting_that_only_warns_bans_nothing(host: Host, cpus: Make, nic: Make) -> None:
    facts = host(cpus(), nic(), irqbalance=True)
    made = plan([Setting(knob="irq_affinity", nic=ETH0, values={}, mode=Mode.WARN)], facts)
    assert len(made.changes) == 4
    assert all(isinstance(change.op, FileWrite) for change in made.changes)


def test_a_rename_does_not_change_the_plan(host: Host, cpus: Make, nic: Make) -> None:
    assert placed(host(cpus(), nic(ifname="eth0"))) == placed(host(cpus(), nic(ifname="wan0")))


def test_affinities_that_cannot_be_read_are_not_written(host: Host, cpus: Make, nic: Make) -> None:
    made = plan([Setting(knob="irq_affinity", nic=ETH0, values={})], host(cpus(), nic(cpus=["", "0-7"])))
    assert len(made.changes) == 1
    assert made.skips[0].reason == "1 of 2 interrupts are without a readable affinity"


def test_every_written_list_parses(host: Host) -> None:
    made = plan([Setting(knob="irq_affinity", nic=ETH0, values={})], host())
    assert all(parse_cpulist(change.op.after) for change in made.changes if isinstance(change.op, FileWrite))
