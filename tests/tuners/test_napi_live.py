"""napi on the real kernel: a veth pair in a namespace, whole transactions, and the thread of a real NAPI moved."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from collectors.napi import collect
from machine.change import LiveWriter
from tests.agent.space import NIC, Space, status
from tuners import engine
from tuners.hostfacts import HostFacts
from tuners.planner import plan
from wire.facts import Irq, Napi, Queue
from wire.policy import Change, OutcomeStatus, Request, Setting, Values

pytestmark = pytest.mark.root
FILES = ("threaded", "napi_defer_hard_irqs", "gro_flush_timeout")


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Space]:
    if os.geteuid() != 0:
        pytest.skip("makes a network namespace: needs root")
    made = Space(tmp_path / "state")
    made.shell(f"ethtool -K {NIC} gro on")  # without it veth has no NAPI
    yield made
    made.close()


def polling(space: Space) -> Napi:
    (found,) = space.run(lambda writer: [fact for fact in collect(writer) if fact.key == NIC])
    return found


def files(space: Space) -> list[int]:
    return [int(space.shell(f"cat /sys/class/net/{NIC}/{name}")) for name in FILES]


def threads() -> set[str]:
    names: set[str] = set()
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            names.add(path.read_text().strip())
        except OSError:
            continue
    return {name for name in names if re.fullmatch(rf"napi/{NIC}-\d+", name)}


def wanted(**values: int) -> list[Setting]:
    return [Setting(knob="napi", nic=NIC, values=dict(values))]


def test_applied_seen_in_the_kernel_and_taken_back(space: Space) -> None:
    before = polling(space)
    assert files(space) == [0, 0, 0]
    assert len(before.instances) == 4
    values: Values = {
        **{"threaded": True, "defer_hard_irqs": 2, "gro_flush_timeout_ns": 20_000},
        "irq_suspend_timeout_ns": 200_000,
    }
    report = space.apply(settings=[Setting(knob="napi", nic=NIC, values=values)])
    assert status(report) == {"napi": "applied"}, report
    assert files(space) == [1, 2, 20_000]
    mine = {f"napi/{NIC}-{napi.id}" for napi in before.instances}
    assert mine <= threads()
    now = polling(space)
    assert {napi.irq_suspend_timeout_ns for napi in now.instances} == {200_000}
    assert {napi.gro_flush_timeout_ns for napi in now.instances} == {20_000}

    assert [line["status"] for line in space.deadman("rollback")[-1]["outcomes"]] == ["reverted"]
    assert files(space) == [0, 0, 0]
    assert [(napi.id, napi.irq_suspend_timeout_ns) for napi in polling(space).instances] == [
        (napi.id, 0) for napi in before.instances
    ]


def test_a_napi_with_a_value_of_its_own_gets_it_back(space: Space) -> None:
    first = polling(space).instances[0]
    own = Request(
        "napi",
        {"gro_flush_timeout": 0},
        {"gro_flush_timeout": 7_000},
        ifindex=space.ifindex(),
        ifname=NIC,
        item=str(first.id),
    )
    space.run(lambda writer: writer.request(own))
    before = polling(space)
    assert [napi.gro_flush_timeout_ns for napi in before.instances] == [7_000, 0, 0, 0]

    assert status(space.apply(settings=wanted(gro_flush_timeout_ns=20_000))) == {"napi": "applied"}
    assert [napi.gro_flush_timeout_ns for napi in polling(space).instances] == [20_000] * 4
    assert files(space)[2] == 0
    space.deadman("rollback")
    assert polling(space) == before


def test_the_thread_of_a_napi_goes_to_the_cpu_of_its_interrupt_and_back(space: Space) -> None:
    """A veth has no interrupt, so the fact says one: what is planned from it is done to the real thread."""
    space.shell(f"echo 1 > /sys/class/net/{NIC}/threaded")
    fact = polling(space)
    assert all(napi.pid and not napi.cpus for napi in fact.instances)

    def pinned(facts: HostFacts) -> HostFacts:
        given = [Irq(key=NIC, ifname=NIC, source="netdev-genl", queues=[Queue(irq=99, rx=[0], cpus="1")])]
        (napi,) = facts.of(Napi)
        napi.instances[0].irq = 99
        return facts.replace([*given, napi])

    changes, made = space.run(lambda writer: _apply(writer, pinned, fact))
    assert [(one.status, one.reason) for one in made] == [(OutcomeStatus.APPLIED, "")]
    pid = fact.instances[0].pid or 0
    assert os.sched_getaffinity(pid) == {1}
    undone = space.run(lambda writer: engine.undo(writer, changes, {}, []))
    assert [one.status for one in undone] == [OutcomeStatus.REVERTED]
    assert os.sched_getaffinity(pid) == os.sched_getaffinity(2)

    space.ip(f"link set {NIC} down")  # and a NAPI that is gone took it along
    undone = space.run(lambda writer: engine.undo(writer, changes, {}, []))
    assert [one.status for one in undone] == [OutcomeStatus.UNCHANGED]


def _apply(
    writer: LiveWriter, change: Callable[[HostFacts], HostFacts], fact: Napi
) -> tuple[list[Change], list[engine.Made]]:
    from collectors.run import collect_facts  # noqa: PLC0415

    read = HostFacts(collect_facts(writer, ("nic", "cpu", "numa"))).replace([fact])
    made = plan([Setting(knob="napi", nic=NIC, values={"pin_threads": True})], change(read))
    return made.changes, engine.apply(writer, made.changes, read.nics)
