"""Huge pages, memory nodes and the kernel's own moving of pages in plans."""

from typing import Any

import pytest
from msgspec import structs

from tuners.hostfacts import HostFacts
from tuners.planner import plan, project
from tuners.policy import lint
from wire.facts import Memory, Numa, Slices, Unit
from wire.policy import Blast, FileWrite, OutcomeStatus, Plan, Request, Setting, Values

GIB = 1 << 20  # kB


def host(**more: Any) -> HostFacts:
    """Two nodes of 4 GiB."""
    pools = {f"node{node}/{size}": 0 for node in range(2) for size in ("2048kB", "1048576kB")}
    memory = Memory(
        total_kb=8 * GIB, thp="madvise", thp_defrag="madvise", numa_balancing=1, zone_reclaim=0, hugepages=pools
    )
    memory = structs.replace(memory, **more)
    nodes = [Numa(key=f"node{number}", node=number, memory_kb=4 * GIB) for number in range(2)]
    units = Slices(units=[Unit(path="/app.slice", mems="0")], cpuset=True)
    return HostFacts([memory, *nodes, units])


def planned(facts: HostFacts, **values: Any) -> Plan:
    wanted: Values = values
    setting = Setting(knob="numa_memory", values=wanted)
    made = plan([setting], facts)
    assert plan([setting], project(facts, made)).changes == []
    return made


def pools(made: Plan) -> dict[str, tuple[object, object]]:
    ops = [change.op for change in made.changes]
    return {op.item: (op.before["pages"], op.after["pages"]) for op in ops if isinstance(op, Request)}


def test_pages_are_per_node_and_one_node_beats_all() -> None:
    made = planned(host(), hugepages="2M=100 node1/2M=200 node0/1G=1")
    assert pools(made) == {"node0/2048kB": (0, 100), "node1/2048kB": (0, 200), "node0/1048576kB": (0, 1)}
    assert {change.blast for change in made.changes} == {Blast.STARVATION}


def test_pools_that_shrink_come_first() -> None:
    have = {"node0/2048kB": 0, "node1/2048kB": 500}
    made = planned(host(hugepages=have), hugepages="node0/2M=500 node1/2M=0")
    assert list(pools(made)) == ["node1/2048kB", "node0/2048kB"]
    assert [change.blast for change in made.changes] == [Blast.SAFE, Blast.STARVATION]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"hugepages": "2M=1900", "reserve_mb": 1024}, "7600 MiB of huge pages leave less than 1024 MiB of 8192"),
        ({"hugepages": "node0/2M=2100"}, "node0 has 4096 MiB, and 4200 MiB are asked for"),
        ({"hugepages": "node0/2M=30"}, "40 pages of node0/2048kB are in use, and 30 are asked for"),
        ({"hugepages": "2M=40"}, "90 pages of 2048kB are in use or promised, and 80 are asked for"),
    ],
)
def test_what_the_memory_cannot_give_is_refused(values: Values, reason: str) -> None:
    have = {"node0/2048kB": 100, "node1/2048kB": 100}
    facts = host(hugepages=have, hugepages_used={"node0/2048kB": 40}, hugepages_promised={"2048kB": 50})
    made = planned(facts, **values)
    assert (made.changes, [skip.reason for skip in made.skips]) == ([], [reason])
    assert made.skips[0].status is OutcomeStatus.FAILED


def test_sizes_that_a_machine_has_not_are_skipped() -> None:
    made = planned(host(hugepages={"node0/2048kB": 0}), hugepages="1G=1 node3/2M=4")
    assert [skip.reason for skip in made.skips] == [
        "no huge pages 1G; there are node0/2048kB",
        "no huge pages node3/2M; there are node0/2048kB",
    ]


def test_files_are_written_where_they_differ() -> None:
    made = planned(host(), numa_balancing=False, thp="never", thp_defrag="madvise", zone_reclaim=1)
    assert [change.op for change in made.changes] == [
        FileWrite("/sys/kernel/mm/transparent_hugepage/enabled", "madvise", "never"),
        FileWrite("/proc/sys/kernel/numa_balancing", "1", "0"),
        FileWrite("/proc/sys/vm/zone_reclaim_mode", "0", "1"),
    ]
    assert planned(host(numa_balancing=2), numa_balancing=True).changes == []  # tiers are moved too: that is on
    made = planned(host(numa_balancing=None, thp=""), numa_balancing=True, thp="always")
    assert {skip.status for skip in made.skips} == {OutcomeStatus.UNSUPPORTED}


def test_units_are_given_nodes_that_have_memory() -> None:
    made = planned(host(), memory_nodes="app.slice=0-1")
    (change,) = made.changes
    assert change.op == Request(
        message="unit", before={"AllowedMemoryNodes": "0"}, after={"AllowedMemoryNodes": "0-1"}, item="/app.slice"
    )
    made = planned(host(), memory_nodes="app.slice=1-2 none.service=0")
    assert [skip.reason for skip in made.skips] == ["no memory on node 2", "none.service is not running"]


@pytest.mark.parametrize("text", ["hugepages: 5", "hugepages: 2M=many", "hugepages: 2T=1", "memory_nodes: a.slice=x"])
def test_lint_says_what_is_wrong(text: str) -> None:
    (problem,) = lint(f"name: x\nknobs:\n  numa_memory:\n    {text}\n")
    assert problem.line == 4
