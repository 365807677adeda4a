"""Units, partitions, processes and workqueues in plans, and who is never left without a CPU."""

from typing import Any

import pytest
from msgspec import structs

from tests.tuners.conftest import make_cpus, make_nic
from tuners.hostfacts import HostFacts
from tuners.planner import plan, project
from tuners.policy import lint
from wire.facts import Fact, Process, Processes, Slices, Unit
from wire.policy import FileWrite, OutcomeStatus, Plan, Request, Setting, Values

SSH = "/system.slice/ssh.service"
PATHS = ("/app.slice", "/app.slice/db.service", "/system.slice", SSH, "/user.slice")


def services(*units: Unit, **more: Any) -> Slices:
    named = {unit.path: unit for unit in units}
    found = [named.get(path, Unit(path=path)) for path in PATHS]
    return structs.replace(Slices(units=found, cpuset=True, workqueues="0-7", keepers=[SSH]), **more)


def processes(*found: Process) -> Processes:
    return Processes(processes=list(found))


def db(threads: dict[str, list[int]], cgroup: str = "/app.slice/db.service", pid: int = 40) -> Process:
    return Process(pid=pid, start=7, comm="db", cgroup=cgroup, threads=threads)


def host(*facts: Fact, irqs: tuple[str, ...] = ("0", "1")) -> HostFacts:
    return HostFacts([*make_cpus(nodes=((0, 1, 2, 3), (4, 5, 6, 7))), *make_nic(cpus=irqs), *facts])


def planned(facts: HostFacts, **values: Any) -> Plan:
    wanted: Values = values
    setting = Setting(knob="core_pinning", values=wanted)
    made = plan([setting], facts)
    assert plan([setting], project(facts, made)).changes == []
    return made


def requests(made: Plan) -> list[tuple[str, Values, Values]]:
    return [
        (change.op.item, change.op.before, change.op.after) for change in made.changes if isinstance(change.op, Request)
    ]


def refusal(made: Plan) -> str:
    assert made.changes == []
    assert {skip.status for skip in made.skips} == {OutcomeStatus.FAILED}
    return made.skips[0].reason


def test_interrupts_and_services_share_no_core() -> None:
    made = planned(host(services()), units="system.slice=rest user.slice=2-3", workqueues="irq")
    assert requests(made) == [
        ("/system.slice", {"AllowedCPUs": ""}, {"AllowedCPUs": "2-7"}),
        ("/user.slice", {"AllowedCPUs": ""}, {"AllowedCPUs": "2-3"}),
    ]
    (queues,) = [change.op for change in made.changes if isinstance(change.op, FileWrite)]
    assert (queues.before, queues.after) == ("ff", "3")


@pytest.mark.parametrize(
    ("irqs", "word", "reason"),
    [
        (("0-7",), "irq", "no interrupt is pinned to a CPU: irq_affinity does that"),
        (tuple("01234567"), "rest", "interrupts are pinned to every housekeeping CPU"),
        (("0",), "9", "none of the CPUs 9 is online"),
    ],
)
def test_a_word_without_a_cpu_is_skipped_with_its_reason(irqs: tuple[str, ...], word: str, reason: str) -> None:
    made = planned(host(services(), irqs=irqs), units=f"app.slice={word}", workqueues=word)
    assert made.changes == []
    assert all(skip.reason.startswith(reason) for skip in made.skips)
    assert len(made.skips) == 2


def test_without_systemd_without_cpusets_and_without_the_unit_nothing_is_written() -> None:
    for facts, reason in [
        ([], "unsupported: no systemd with cgroup v2"),
        ([services(cpuset=False)], "unsupported: the kernel has no cpuset controller"),
        ([services(units=[])], "app.slice is not running"),
    ]:
        made = planned(host(*facts), units="app.slice=2")
        assert (made.changes, [skip.reason for skip in made.skips]) == ([], [reason])


def test_a_partition_comes_after_its_cpus_and_the_rest_has_none_of_them() -> None:
    made = planned(host(services()), units="app.slice=4-7 system.slice=rest", partitions="app.slice=isolated")
    assert requests(made)[1] == ("/system.slice", {"AllowedCPUs": ""}, {"AllowedCPUs": "2-3"})
    last = made.changes[-1].op
    assert isinstance(last, FileWrite)
    assert last == FileWrite("/sys/fs/cgroup/app.slice/cpuset.cpus.partition", "member", "isolated")
    owner = services(Unit(path="/app.slice", cpus="4-7", partition="isolated"))
    ended = planned(host(owner), units="app.slice=2-7", partitions="app.slice=member")
    assert isinstance(ended.changes[0].op, FileWrite)


def test_cpus_that_are_to_be_owned_are_nobody_elses() -> None:
    made = planned(host(services()), units="app.slice=4-7 user.slice=2-4", partitions="app.slice=root")
    assert [skip.reason for skip in made.skips] == [
        "/user.slice has some of its CPUs 4-7, which would have to be its alone"
    ]


def test_the_agent_and_ssh_are_never_left_without_a_cpu() -> None:
    everything = refusal(planned(host(services()), units="app.slice=0-7", partitions="app.slice=root"))
    assert everything == "/app.slice would own every housekeeping CPU, and nothing else could run"
    taken = refusal(planned(host(services()), units="app.slice=4-7 ssh.service=4-5", partitions="app.slice=isolated"))
    assert taken == f"{SSH} runs the agent or an SSH server, and would have no housekeeping CPU"
    isolated = HostFacts([*make_cpus(isolated="4-7"), services()])
    assert "no housekeeping CPU" in refusal(planned(isolated, units="system.slice=6-7"))
    theirs = services(Unit(path="/app.slice", cpus="4-7", partition="root"))
    assert "no housekeeping CPU" in refusal(planned(host(theirs), units="system.slice=4-7"))


def test_threads_are_pinned_but_those_that_their_program_pinned() -> None:
    found = processes(
        db({"0-7": [40, 41], "5": [42], "2-3": [43]}), db({"0-7": [1]}, pid=1), db({"0-7": [50]}, SSH, 50)
    )
    made = planned(host(services(), found), processes="db@/app.slice/*=2-3 d*=6")
    assert requests(made) == [("40:7:db", {"40": "0-7", "41": "0-7"}, {"40": "2-3", "41": "2-3"})]


def test_processes_follow_their_units_cpus() -> None:
    found = processes(db({"0-7": [40]}))
    made = planned(host(services(), found), units="app.slice=4-7", processes="db=2-5")
    assert requests(made)[-1] == ("40:7:db", {"40": "4-7"}, {"40": "4-5"})
    made = planned(host(services(Unit(path="/app.slice", cpus="4-7")), found), processes="db=2-3 other=1")
    assert [skip.reason for skip in made.skips] == [
        "no such process has run for ten seconds",
        "its cgroup is on CPUs 4-7, with none of 2-3",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("units: app.slice", "must be NAME=VALUE with spaces between"),
        ("units: app.slice=1 app.slice=2", "each name once"),
        ("units: app=1", '"app" is no name'),
        ("units: app.slice=some", 'of app.slice must be CPUs: "irq"'),
        ("partitions: app.slice=mine", "of app.slice must be member or root or isolated"),
        ("workqueues: 3-1", 'must be CPUs: "irq"'),
    ],
)
def test_lint_says_what_is_wrong(text: str, words: str) -> None:
    (problem,) = lint(f"name: x\nknobs:\n  core_pinning:\n    {text}\n")
    assert words in str(problem)
