"""Shares of cache and bandwidth: plans, and the whole way there and back on files as resctrl shows them.

No CPU of the lab shares out its cache. The tree stands in for the kernel: it makes a group's files with its directory,
takes one line of schemata at a time, moves tasks between lists, and refuses a line without its end.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest

from collectors import resctrl
from machine import MachineError, NotPresentError
from machine.change import LiveWriter
from tests.tuners.conftest import make_cpus, make_nic
from tuners import engine
from tuners.hostfacts import HostFacts
from tuners.planner import plan, project
from tuners.policy import lint
from wire.cpulist import format_cpulist, parse_cpulist
from wire.facts import CacheGroup, CacheResource, Fact, Process, Processes, Resctrl
from wire.policy import FileWrite, OutcomeStatus, Plan, Request, Setting, Values

FULL = {"L3": "    L3:0=7ff;1=7ff", "MB": "    MB:0=100;1=100"}
INFO = {
    "L3": {"num_closids": "4", "cbm_mask": "7ff", "min_cbm_bits": "2", "sparse_masks": "0"},
    "MB": {"num_closids": "4", "min_bandwidth": "10", "bandwidth_gran": "10"},
    "L3_MON": {"num_rmids": "144"},
}


class Mounted(LiveWriter):
    """A tree that behaves as resctrl does, with two threads that run."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root))
        self.top = root / "sys/fs/resctrl"
        for name, files in INFO.items():
            (self.top / "info" / name).mkdir(parents=True)
            for file, text in files.items():
                (self.top / "info" / name / file).write_text(f"{text}\n")
        for thread in ("40", "41"):
            (root / "proc" / thread).mkdir(parents=True)
            (root / "proc" / thread / "stat").write_text("x")
        self._fill(self.top, cpus="0-7", tasks=("1", "40", "41"))

    def _fill(self, folder: Path, cpus: str = "", tasks: tuple[str, ...] = ()) -> None:
        (folder / "schemata").write_text("\n".join([*FULL.values(), ""]))
        (folder / "cpus_list").write_text(f"{cpus}\n")
        (folder / "mode").write_text("shareable\n")
        (folder / "tasks").write_text("".join(f"{task}\n" for task in tasks))

    def _groups(self) -> list[Path]:
        return [self.top, *(path.parent for path in self.top.glob("*/schemata"))]

    def request(self, op: Request) -> None:
        folder = self.top / op.item
        if op.message == "cache_group" and op.after["exists"] is not True:
            cpus, tasks = (folder / "cpus_list").read_text(), (folder / "tasks").read_text().split()
            for file in list(folder.iterdir()):
                file.unlink()
            super().request(op)
            self._move_cpus(self.top, parse_cpulist(cpus) + parse_cpulist((self.top / "cpus_list").read_text()))
            for task in tasks:
                self._move_task(self.top, task)
            return
        super().request(op)
        if op.message == "cache_group":
            self._fill(folder)

    def write(self, path: str, text: str) -> None:
        file = Path(self.root + path)
        if file.name == "tasks":
            if not Path(self.root, "proc", text).exists():
                raise NotPresentError("No such process")
            self._move_task(file.parent, text)
        elif file.name == "cpus_list":
            self._move_cpus(file.parent, parse_cpulist(text))
        else:
            self._write_line(file, text)

    def _write_line(self, file: Path, text: str) -> None:
        if not text.endswith("\n"):
            raise MachineError("Invalid argument")
        resource = text.partition(":")[0]
        lines = [text.rstrip() if line.strip().startswith(resource) else line for line in file.read_text().splitlines()]
        file.write_text("\n".join([*lines, ""]))

    def _move_cpus(self, group: Path, cpus: list[int]) -> None:
        dropped = set(parse_cpulist((group / "cpus_list").read_text())) - set(cpus) if group != self.top else set[int]()
        for folder in self._groups():
            have = set(parse_cpulist((folder / "cpus_list").read_text()))
            have = set(cpus) if folder == group else have - set(cpus)
            (folder / "cpus_list").write_text(format_cpulist(have | dropped if folder == self.top else have) + "\n")

    def _move_task(self, group: Path, task: str) -> None:
        for folder in self._groups():
            tasks = [one for one in (folder / "tasks").read_text().split() if one != task]
            tasks += [task] if folder == group else []
            (folder / "tasks").write_text("".join(f"{one}\n" for one in sorted(tasks, key=int)))

    def snapshot(self) -> dict[str, str]:
        return {str(path.relative_to(self.top)): path.read_text() for path in self.top.rglob("*") if path.is_file()}


def host(*facts: Fact) -> HostFacts:
    found = Process(pid=40, start=7, comm="backup", cgroup="/system.slice/b.service", threads={"0-7": [40, 41]})
    return HostFacts([*make_cpus(), *make_nic(cpus=("0", "1")), Processes(processes=[found]), *facts])


def planned(facts: HostFacts, **values: Any) -> Plan:
    wanted: Values = values
    setting = Setting(knob="cache", values=wanted)
    made = plan([setting], facts)
    assert plan([setting], project(facts, made)).changes == []
    return made


VALUES: Values = {
    "groups": "net L3:0=7;1=700 MB:0=35, batch L3:0=7f8",
    "cpus": "net=irq batch=6-7",
    "processes": "backup@/system.slice/*=batch",
}


def test_there_and_back_on_files_as_resctrl_shows_them(tmp_path: Path) -> None:
    tree = Mounted(tmp_path)
    before = tree.snapshot()
    facts = host(*resctrl.collect(tree))
    made = planned(facts, **VALUES)
    results = engine.apply(tree, made.changes, {})
    assert [one.reason for one in results if one.status is not OutcomeStatus.APPLIED] == []
    (now,) = resctrl.collect(tree)
    groups = {group.name: group for group in now.groups}
    assert groups["net"].schemata == {"L3": {"0": "7", "1": "700"}, "MB": {"0": "40", "1": "100"}}
    assert groups["batch"].schemata["L3"] == {"0": "7f8", "1": "7ff"}
    assert [groups[name].cpus for name in ("", "batch", "net")] == ["2-5", "6-7", "0-1"]
    assert groups["batch"].tasks == [40, 41]
    assert planned(host(now), **VALUES).changes == []

    undone = engine.undo(tree, made.changes, {}, [])
    assert {one.status for one in undone} <= {OutcomeStatus.REVERTED, OutcomeStatus.UNCHANGED}
    assert tree.snapshot() == before
    assert {one.status for one in engine.undo(tree, made.changes, {}, [])} == {OutcomeStatus.UNCHANGED}


def test_a_thread_that_has_ended_is_neither_moved_nor_brought_back(tmp_path: Path) -> None:
    tree = Mounted(tmp_path)
    made = planned(host(*resctrl.collect(tree)), **VALUES)
    (tree.top / "tasks").write_text("1\n41\n")
    shutil.rmtree(tmp_path / "proc/40")
    results = engine.apply(tree, made.changes, {})
    assert {one.status for one in results} == {OutcomeStatus.APPLIED}
    (now,) = resctrl.collect(tree)
    assert {group.name: group.tasks for group in now.groups}["batch"] == [41]
    assert OutcomeStatus.FAILED not in {one.status for one in engine.undo(tree, made.changes, {}, [])}
    assert (tree.top / "tasks").read_text().split() == ["1", "41"]


def shares() -> Resctrl:
    schemata = {"L3": {"0": "ff"}, "MB": {"0": "100"}}
    groups = [CacheGroup(cpus="4-7", schemata=schemata), CacheGroup(name="old", cpus="0-3", schemata=schemata)]
    resources = [
        CacheResource(name="L3", cbm_mask="ff", min_cbm_bits=2, closids=3),
        CacheResource(name="MB", closids=3, min_percent=10, step_percent=10),
    ]
    return Resctrl(resources=resources, groups=groups)


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        ("old L3:0=100", "100 is no part of ff"),
        ("old L3:0=1", "1 has fewer than 2 bits"),
        ("old L3:0=5", "the bits of 5 are not side by side"),
        ("old L3:3=f", "there is no domain 3; there are 0"),
        ("old MB:0=5", "5 % is not within 10 to 100"),
        ("a L3:0=f, b L3:0=f", "2 groups more, and the CPUs have room for 1"),
    ],
)
def test_what_the_hardware_refuses_is_refused_before(groups: str, reason: str) -> None:
    made = planned(host(shares()), groups=groups)
    assert (made.changes, [skip.reason for skip in made.skips]) == ([], [reason])
    assert made.skips[0].status is OutcomeStatus.FAILED


def test_what_another_has_for_itself_is_not_shared() -> None:
    fact = shares()
    fact.groups[1].mode = "exclusive"
    fact.groups[1].schemata = {"L3": {"0": "f0"}}
    made = planned(host(fact), groups="net L3:0=18")
    assert [skip.reason for skip in made.skips] == ["group old has a part of it for itself"]


def test_cpus_leave_the_group_they_were_in_aloud() -> None:
    made = planned(host(shares()), groups="net L3:0=f", cpus="net=3-4 old=4")
    assert [skip.reason for skip in made.skips] == ["CPUs 4 are given to two groups"]
    writes = [change.op for change in made.changes if isinstance(change.op, FileWrite) and "cpus" in change.op.path]
    assert [(op.path.split("/")[-2], op.before, op.after) for op in writes] == [
        ("old", "0-3\n", "0-2\n"),
        ("net", "\n", "3-4\n"),
    ]


def test_without_resctrl_nothing_is_written() -> None:
    made = planned(host(), **VALUES)
    reason = "unsupported: resctrl is not mounted, or these CPUs share out nothing"
    assert (made.changes, [skip.reason for skip in made.skips]) == ([], [reason])


@pytest.mark.parametrize(
    "text", ["groups: net", "groups: info L3:0=f", "groups: a L3:0=f, a L3:1=f", "cpus: net", "processes: a=info"]
)
def test_lint_says_what_is_wrong(text: str) -> None:
    (problem,) = lint(f"name: x\nknobs:\n  cache:\n    {text}\n")
    assert problem.line == 4
