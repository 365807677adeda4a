"""The table of collectors, its README, and a run that never raises."""

import importlib
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from collectors.about import LEAST_S, row
from collectors.registry import ALL, Collector, by_name
from collectors.run import collect_facts, run
from machine import DeniedError, Machine, MachineError, NotPresentError
from machine.live import Live
from wire import facts
from wire.facts import Dmi
from wire.report import Event, Sample, Status

FACTS = tuple(getattr(facts, name) for name in dir(facts) if isinstance(getattr(facts, name), type))


def modules(root: Path) -> set[str]:
    return {path.stem for path in (root / "collectors").glob("*.py")}


def test_every_module_that_collects_is_in_the_table(root: Path) -> None:
    found = {name for name in modules(root) if hasattr(importlib.import_module(f"collectors.{name}"), "collect")}
    assert {collector.NAME for collector in ALL} == found
    assert [importlib.import_module(f"collectors.{collector.NAME}") for collector in ALL] == list(ALL)


def test_names_come_back_and_an_unknown_one_lists_them() -> None:
    assert [by_name(collector.NAME) for collector in ALL] == list(ALL)
    with pytest.raises(KeyError, match="no collector 'nics'; there are: dmi, cpu"):
        by_name("nics")


def test_each_has_a_deadline_shorter_than_a_minute_and_runs_no_oftener_than_its_cost_allows() -> None:
    for collector in ALL:
        assert 0 < collector.DEADLINE_S < 60
        assert LEAST_S[collector.ABOUT.cost] <= collector.EVERY_S, collector.NAME


def test_the_readme_has_the_row_of_each_word_for_word(root: Path, update: bool) -> None:
    path = root / "collectors/README.md"
    text = path.read_text()
    rows = [row(collector.NAME, collector.EVERY_S, collector.ABOUT) for collector in ALL]
    before, _, rest = text.partition("|---|---|---|---|---|---|---|\n")
    after = rest[rest.index("\n\n") :]
    if update:
        path.write_text(f"{before}|---|---|---|---|---|---|---|\n" + "\n".join(rows) + after)
    assert rest.removesuffix(after).splitlines() == rows
    assert {name for name in modules(root) if f"`{name}`" not in text} == set()


def test_every_metric_is_named_after_its_collector_and_declared(root: Path) -> None:
    for collector in ALL:
        assert all(metric.startswith(f"{collector.NAME}.") for metric in collector.ABOUT.metrics)
        source = (root / "collectors" / f"{collector.NAME}.py").read_text()
        written = set(re.findall(rf'(?<!kind=)"({collector.NAME}\.[a-z][a-z0-9_]+)"', source))
        assert written <= set(collector.ABOUT.metrics), collector.NAME


def test_a_cycle_over_this_machine_yields_wire_structs_with_unique_keys() -> None:
    machine = Live()
    seen: set[tuple[type, str]] = set()
    metrics: set[tuple[str, str]] = set()
    for collector in ALL:
        result = run(collector, machine, 1)
        denied = os.geteuid() != 0 and result.reason.startswith("DeniedError: ")
        assert result.status in (Status.OK, Status.ABSENT) or denied, result.reason
        for fact in result.facts:
            assert isinstance(fact, FACTS)
            assert (type(fact), fact.key) not in seen
            seen.add((type(fact), fact.key))
        for sample in result.samples:
            assert sample.metric.startswith(f"{collector.NAME}.")
            assert (sample.metric, sample.key) not in metrics
            metrics.add((sample.metric, sample.key))


def collector(collect: Callable[[Machine], Iterable[Any]]) -> Collector:
    return cast("Collector", SimpleNamespace(NAME="x", EVERY_S=1.0, DEADLINE_S=1.0, collect=collect))


def test_a_run_sorts_what_it_got_and_dates_events() -> None:
    items = [
        Dmi(hostname="a"),
        Sample("x.y", "", 1),
        Event(at_ms=0, kind="k", text="t"),
        Event(at_ms=5, kind="k", text="t"),
    ]
    result = run(collector(lambda _: items), Live(), 77)
    assert result.status is Status.OK
    assert (result.facts, result.samples) == ([Dmi(hostname="a")], [Sample("x.y", "", 1)])
    assert [event.at_ms for event in result.events] == [77, 5]
    assert result.duration_ms >= 0


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (NotPresentError("no such thing"), Status.ABSENT, "no such thing"),
        (DeniedError("not allowed"), Status.FAILED, "DeniedError: not allowed"),
        (MachineError("odd"), Status.FAILED, "MachineError: odd"),
        (ValueError("line 3"), Status.FAILED, "ValueError: line 3"),
        (RecursionError("deep"), Status.FAILED, "RecursionError: deep"),
    ],
)
def test_a_run_never_raises_and_half_a_truth_is_none(error: Exception, status: Status, reason: str) -> None:
    def collect(_: Machine) -> Iterable[Any]:
        yield Dmi(hostname="a")
        raise error

    result = run(collector(collect), Live(), 1)
    assert (result.status, result.reason, result.facts) == (status, reason, [])


def test_facts_of_named_collectors_in_their_order(tmp_path: Path) -> None:
    assert [type(fact).__name__ for fact in collect_facts(Live(), ["memory", "cpu"])] == ["Memory", "Cpu"]
    assert collect_facts(Live(str(tmp_path))) == []


def test_every_collector_is_absent_on_an_empty_machine(tmp_path: Path) -> None:
    results = {collector.NAME: run(collector, Live(str(tmp_path)), 1) for collector in ALL}
    assert {name: result.status for name, result in results.items()} == dict.fromkeys(results, Status.ABSENT)


class Vanishing(Live):
    """This machine, where every file whose path has `word` in it is gone between listing and reading, or is denied."""

    def __init__(self, word: str, error: type[MachineError]) -> None:
        super().__init__()
        self.word = word
        self.error = error

    def read_bytes(self, path: str) -> bytes:
        if self.word in path:
            raise self.error(f"{path}: gone")
        return super().read_bytes(path)


@pytest.mark.parametrize("error", [NotPresentError, DeniedError])
@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("cpu", "/topology/"),
        ("cpu", "/cache/"),
        ("numa", "/meminfo"),
        ("memory", "nr_hugepages"),
        ("nic", "numa_node"),
        ("queues", "rps_cpus"),
        ("irq", "smp_affinity_list"),
        ("softnet", "rps_sock_flow_entries"),
        ("pci", "link_speed"),
        ("dmi", "/sys/class/dmi"),
        ("nicstats", "carrier_changes"),
    ],
)
def test_one_file_that_vanished_loses_no_fact(name: str, word: str, error: type[MachineError]) -> None:
    whole = run(by_name(name), Live(), 1)
    less = run(by_name(name), Vanishing(word, error), 1)
    assert less.status is whole.status
    assert [fact.key for fact in less.facts] == [fact.key for fact in whole.facts]


def test_a_pci_function_that_went_away_is_left_out_alone() -> None:
    gone = run(by_name("pci"), Vanishing("0000:00:01.0/", NotPresentError), 1)
    whole = run(by_name("pci"), Live(), 1)
    assert [fact.key for fact in gone.facts] == [fact.key for fact in whole.facts if fact.key != "0000:00:01.0"]
