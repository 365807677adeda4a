"""xps and rps: which CPUs send and receive through which queue."""

from collections.abc import Callable, Iterable

import pytest
from msgspec import structs

from tuners.hostfacts import HostFacts
from tuners.planner import plan, project
from wire.cpulist import parse_cpulist
from wire.facts import Fact, Queues, Softnet
from wire.policy import FileWrite, Mode, OutcomeStatus, Setting, Values

Make = Callable[..., list[Fact]]
Host = Callable[..., HostFacts]
ETH0 = "52:54:00:00:00:03"


def after(facts: HostFacts, *settings: Setting) -> HostFacts:
    made = plan(settings, facts)
    then = project(facts, made)
    assert plan(settings, then).changes == []
    return then


def xps(facts: HostFacts, mode: str = "auto") -> list[list[int]]:
    then = after(facts, Setting(knob="xps", nic=ETH0, values={"mode": mode}))
    return [parse_cpulist(cpus) for cpus in then.queues[ETH0].xps_cpus or []]


def rps(facts: HostFacts, values: Values) -> list[list[int]]:
    then = after(facts, Setting(knob="rps", nic=ETH0, values=values))
    return [parse_cpulist(cpus) for cpus in then.queues[ETH0].rps_cpus]


def pin(*cpus: int) -> list[str]:
    return [str(cpu) for cpu in cpus]


def test_a_queue_per_cpu_is_one_to_one(host: Host, cpus: Make, nic: Make) -> None:
    facts = host(cpus(nodes=[(0, 1, 2, 3)]), nic(cpus=pin(3, 1, 0, 2)))
    assert xps(facts) == [[3], [1], [0], [2]]


def test_fewer_queues_are_shared_within_the_node_and_every_cpu_has_one(host: Host, cpus: Make, nic: Make) -> None:
    maps = xps(host(cpus(), nic(cpus=pin(0, 4))))
    assert maps == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_siblings_and_caches_come_before_the_node(host: Host, cpus: Make, nic: Make) -> None:
    machine = cpus(nodes=[range(8)], smt=[(0, 4), (1, 5), (2, 6), (3, 7)], llc=[(0, 1, 4, 5), (2, 3, 6, 7)])
    maps = xps(host(machine, nic(cpus=pin(0, 2))))
    assert maps == [[0, 1, 4, 5], [2, 3, 6, 7]]


def test_isolated_cpus_still_send_through_some_queue(host: Host, cpus: Make, nic: Make) -> None:
    maps = xps(host(cpus(isolated="6-7"), nic(cpus=pin(0, 1))))
    assert sorted(cpu for queue in maps for cpu in queue) == list(range(8))


def test_more_queues_than_cpus_leaves_no_queue_without_a_cpu(host: Host, cpus: Make, nic: Make) -> None:
    maps = xps(host(cpus(nodes=[(0, 1)]), nic(cpus=pin(0, 1, 0, 1))))
    assert maps == [[0], [1], [0], [1]]


def test_queues_without_a_pinned_interrupt_get_near_cpus_in_order(host: Host, cpus: Make, nic: Make) -> None:
    maps = xps(host(cpus(), nic(node=1, source="unmapped", cpus=["0-7"] * 4)))
    assert all(home in queue for home, queue in zip((4, 5, 6, 7), maps, strict=True))
    assert sorted(len(queue) for queue in maps) == [2, 2, 2, 2]


def test_xps_follows_the_interrupts_as_they_will_be(host: Host, cpus: Make, nic: Make) -> None:
    facts = host(cpus(nodes=[(0, 1, 2, 3)]), nic(cpus=["0-3"] * 4))
    settings = [Setting(knob="xps", nic=ETH0, values={}), Setting(knob="irq_affinity", nic=ETH0, values={})]
    then = after(facts, *settings)
    assert [queue.cpus for queue in then.irq[ETH0].queues] == then.queues[ETH0].xps_cpus


def test_xps_off_clears_and_one_queue_is_unsupported(host: Host, cpus: Make, nic: Make) -> None:
    set_up = host().replace([structs.replace(host().queues[ETH0], xps_cpus=["0", "1", "", "3"])])
    assert xps(set_up, "off") == [[], [], [], []]
    made = plan([Setting(knob="xps", nic=ETH0, values={})], host(cpus(), nic(cpus=["0"])))
    assert [skip.status for skip in made.skips] == [OutcomeStatus.UNSUPPORTED]


def test_masks_are_hex_groups_and_paths_follow_a_rename(host: Host, cpus: Make, nic: Make) -> None:
    machine = cpus(nodes=[range(40)])
    made = plan([Setting(knob="xps", nic=ETH0, values={})], host(machine, nic(cpus=pin(0, 39))))
    op = made.changes[0].op
    assert isinstance(op, FileWrite)
    assert (op.path, op.before, op.ifindex) == ("/sys/class/net/{ifname}/queues/tx-0/xps_cpus", "0", 3)
    halves = [int(change.op.after.replace(",", ""), 16) for change in made.changes if isinstance(change.op, FileWrite)]
    assert halves[0] ^ halves[1] == (1 << 40) - 1
    assert all("," in change.op.after for change in made.changes if isinstance(change.op, FileWrite))


def test_rps_is_off_where_there_is_a_queue_for_every_core(host: Host) -> None:
    set_up = host().replace([structs.replace(host().queues[ETH0], rps_cpus=["0-3"] * 4)])
    assert rps(set_up, {"mode": "auto"}) == [[], [], [], []]


def test_rps_with_fewer_queues_is_the_memory_domain_without_the_interrupts_cpu(
    host: Host, cpus: Make, nic: Make
) -> None:
    assert rps(host(cpus(), nic(cpus=pin(1))), {"mode": "auto"}) == [[0, 2, 3]]


def test_rps_keeps_the_interrupts_cpu_when_flows_follow_their_reader(host: Host, cpus: Make, nic: Make) -> None:
    facts = host(cpus(), nic(cpus=pin(1)))
    assert rps(facts, {"mode": "auto", "flow_entries": 32768}) == [[0, 1, 2, 3]]


@pytest.mark.parametrize("mode", ["auto", "all"])
def test_rps_never_on_isolated_cpus(host: Host, cpus: Make, nic: Make, mode: str) -> None:
    masks = rps(host(cpus(isolated="2,5"), nic(cpus=pin(1))), {"mode": mode})
    assert not {2, 5} & set(masks[0])
    assert masks[0]


def test_rps_all_and_off(host: Host, cpus: Make, nic: Make) -> None:
    facts = host(cpus(), nic(cpus=pin(1)))
    assert rps(facts, {"mode": "all"}) == [list(range(8))]
    assert rps(facts, {"mode": "off"}) == [[]]


def table(facts: HostFacts, entries: int) -> HostFacts:
    return facts.replace([Softnet(rps_sock_flow_entries=entries)])


def writes(facts: HostFacts, settings: Iterable[Setting]) -> list[tuple[str, str, str]]:
    ops = [change.op for change in plan(list(settings), facts).changes]
    return [(op.path.rpartition("/")[2], op.before, op.after) for op in ops if isinstance(op, FileWrite)]


def test_flows_are_shared_over_the_queues_in_powers_of_two(host: Host, cpus: Make, nic: Make) -> None:
    facts = host(cpus(), nic(cpus=["0"] * 3))
    setting = Setting(knob="rps", nic=ETH0, values={"flow_entries": 30000})
    assert writes(facts, [setting]) == [("rps_sock_flow_entries", "0", "32768")] + [("rps_flow_cnt", "0", "16384")] * 3
    after(facts, setting)


def test_the_hosts_flow_table_is_only_raised(host: Host) -> None:
    setting = Setting(knob="rps", nic=ETH0, values={"flow_entries": 4096})
    assert ("rps_sock_flow_entries", "1024", "4096") in writes(table(host(), 1024), [setting])
    assert not any(name == "rps_sock_flow_entries" for name, _, _ in writes(table(host(), 65536), [setting]))


def test_a_setting_that_only_warns_does_not_raise_the_hosts_table(host: Host) -> None:
    setting = Setting(knob="rps", nic=ETH0, values={"flow_entries": 4096}, mode=Mode.WARN)
    assert {name for name, _, _ in writes(host(), [setting])} == {"rps_flow_cnt"}


def test_flows_off_clears_the_queues_and_leaves_the_table(host: Host) -> None:
    fact: Queues = structs.replace(host().queues[ETH0], rps_flow_cnt=[512] * 4)
    facts = table(host().replace([fact]), 2048)
    setting = Setting(knob="rps", nic=ETH0, values={"flow_entries": 0})
    assert writes(facts, [setting]) == [("rps_flow_cnt", "512", "0")] * 4


def test_kernels_without_rps_are_unsupported(host: Host) -> None:
    facts = host().replace([structs.replace(host().queues[ETH0], rps_cpus=[], rps_flow_cnt=[])])
    made = plan([Setting(knob="rps", nic=ETH0, values={"mode": "all"})], facts)
    assert (made.changes, [skip.status for skip in made.skips]) == ([], [OutcomeStatus.UNSUPPORTED])
