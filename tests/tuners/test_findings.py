"""What is found to be wrong, on machines made to have exactly that, and that the remedy is a policy that lints."""

import re
from collections.abc import Callable

import pytest
from msgspec import structs

from tuners import bond_rules, cable_rules, owner_rules, part_rules, platform_rules
from tuners.findings import RULES, findings
from tuners.hardware_rules import gigabits
from tuners.hostfacts import HostFacts
from tuners.planner import plan, project
from tuners.policy import compile_settings, lint, parse_policy
from wire.facts import Cpu, Fact, Hwmon, Nic, Pci, Queues, Softnet
from wire.policy import Finding
from wire.report import Severity

Make = Callable[..., list[Fact]]
Host = Callable[..., HostFacts]
ETH0 = "52:54:00:00:00:03"
CARD = "0000:4b:00.0"


@pytest.fixture
def good(host: Host, cpus: Make, nic: Make) -> HostFacts:
    """A host with nothing to find: local interrupts on a CPU each, XPS, links at full speed."""
    facts = host(cpus(), nic(cpus=["0", "1", "2", "3"]))
    port: Nic = structs.replace(
        facts.nics[ETH0],
        up=True,
        carrier=True,
        speed_mbps=25000,
        max_speed_mbps=25000,
        bus="pci",
        address=CARD,
    )
    card = Pci(
        key=CARD,
        class_id="020000",
        max_speed_gts=8.0,
        max_width=8,
        speed_gts=8.0,
        width=8,
        path_max_speed_gts=8.0,
        path_max_width=8,
    )
    maps: Queues = structs.replace(facts.queues[ETH0], xps_cpus=["0", "1", "2", "3"])
    return facts.replace([port, card, maps])


def nic_with(facts: HostFacts, **fields: object) -> HostFacts:
    return facts.replace([structs.replace(facts.nics[ETH0], **fields)])


def card_with(facts: HostFacts, **fields: object) -> HostFacts:
    return facts.replace([structs.replace(facts.pci[CARD], **fields)])


def irqs_on(facts: HostFacts, *cpus: str) -> HostFacts:
    fact = facts.irq[ETH0]
    queues = [structs.replace(queue, cpus=on) for queue, on in zip(fact.queues, cpus, strict=True)]
    return facts.replace([structs.replace(fact, queues=queues)])


def ethtool_with(facts: HostFacts, **fields: object) -> HostFacts:
    return facts.replace([structs.replace(facts.ethtool[ETH0], **fields)])


def cpu_with(facts: HostFacts, **fields: object) -> HostFacts:
    assert isinstance(facts.cpu, Cpu)
    return facts.replace([structs.replace(facts.cpu, **fields)])


def one_queue(facts: HostFacts, channels: int) -> HostFacts:
    queues = structs.replace(facts.queues[ETH0], rps_cpus=[""], xps_cpus=None)
    return ethtool_with(facts, channels={"combined": 1, "combined_max": channels}).replace([queues])


Change = Callable[[HostFacts], HostFacts]
SENSOR = Hwmon(key="0000:4b:00.0/nic/temp1", chip="nic", channel="temp1", unit="°C", max=90.0, alarm=True)

CASES: list[tuple[str, Change, Severity]] = [
    ("irq_remote", lambda f: irqs_on(f, "0", "1", "2", "5"), Severity.WARNING),
    ("irq_one_cpu", lambda f: irqs_on(f, "1", "1", "1", "1"), Severity.WARNING),
    ("irq_isolated", lambda f: cpu_with(f, isolated="3"), Severity.WARNING),
    (
        "irqbalance_moves",
        lambda f: f.replace([Softnet(irqbalance=True, banned_irqs=[100, 101])]),
        Severity.INFO,
    ),
    ("single_queue", lambda f: one_queue(f, 1), Severity.INFO),
    ("single_queue", lambda f: one_queue(f, 8), Severity.INFO),
    (
        "xps_missing",
        lambda f: f.replace([structs.replace(f.queues[ETH0], xps_cpus=[""] * 4)]),
        Severity.INFO,
    ),
    (
        "irq_unmapped",
        lambda f: f.replace([structs.replace(f.irq[ETH0], source="unmapped")]),
        Severity.INFO,
    ),
    ("offload_off", lambda f: ethtool_with(f, features={"rx-gro": False}), Severity.INFO),
    ("link_slow", lambda f: nic_with(f, speed_mbps=10000), Severity.INFO),
    ("link_slow", lambda f: nic_with(f, speed_mbps=100), Severity.WARNING),
    (
        "pcie_slot",
        lambda f: card_with(f, path_max_width=2, width=2, path_limit="0000:4a:02.0"),
        Severity.WARNING,
    ),
    (
        "pcie_slot",
        lambda f: card_with(f, path_max_width=4, width=4, path_limit="0000:4a:02.0"),
        Severity.INFO,
    ),
    ("pcie_degraded", lambda f: card_with(f, width=4), Severity.WARNING),
    ("pcie_degraded", lambda f: card_with(f, speed_gts=2.5), Severity.INFO),
    ("numa_unknown", lambda f: nic_with(f, numa_node=None), Severity.INFO),
    ("sensor_alarm", lambda f: f.replace([SENSOR]), Severity.WARNING),
]


def test_nothing_is_wrong_with_a_good_host(good: HostFacts) -> None:
    assert findings(good) == []


@pytest.mark.parametrize(("rule", "change", "severity"), CASES, ids=[f"{n}-{case[0]}" for n, case in enumerate(CASES)])
def test_each_fault_is_found_once_and_alone(good: HostFacts, rule: str, change: Change, severity: Severity) -> None:
    found = findings(change(good))
    assert [(each.rule, each.severity) for each in found] == [(rule, severity)]
    assert found[0].remedy
    assert found[0].text


SAMPLES: list[tuple[str, dict[tuple[str, str], float]]] = [
    ("rx_ring_small", {("nicstats.rx_packets", ETH0): 1e6, ("nicstats.driver_rx_out_of_buffer", ETH0): 500}),
    ("backlog_drops", {("softnet.processed", "cpu0"): 1e6, ("softnet.dropped", ""): 500}),
    ("time_squeeze", {("softnet.processed", "cpu0"): 1e6, ("softnet.time_squeeze", ""): 5000}),
]


@pytest.mark.parametrize(("rule", "latest"), SAMPLES)
def test_losses_are_found_by_their_share(good: HostFacts, rule: str, latest: dict[tuple[str, str], float]) -> None:
    assert [each.rule for each in findings(good, latest)] == [rule]
    assert findings(good, {place: value if value >= 1e6 else 1 for place, value in latest.items()}) == []


def test_every_rule_is_tested() -> None:
    tested = {case[0] for case in CASES} | {sample[0] for sample in SAMPLES}
    assert tested == {
        rule.__name__
        for rule in RULES
        if rule.__module__
        not in tuple(one.__name__ for one in (bond_rules, cable_rules, owner_rules, platform_rules, part_rules))
    }


def test_a_ring_at_its_maximum_is_not_blamed(good: HostFacts) -> None:
    full = ethtool_with(good, rings={"rx": 8192, "rx_max": 8192})
    assert findings(full, SAMPLES[0][1]) == []


@pytest.mark.parametrize("fields", [{"up": False}, {"type": "veth"}])
def test_only_physical_nics_that_are_up_are_judged(good: HostFacts, fields: dict[str, object]) -> None:
    assert findings(nic_with(irqs_on(good, "1", "1", "1", "1"), **fields)) == []


def test_sensor_noise_is_no_alarm(good: HostFacts) -> None:
    latched = structs.replace(SENSOR, key="x", channel="intrusion0")
    without_limits = structs.replace(SENSOR, key="y", max=None)
    assert findings(good.replace([latched, without_limits])) == []


def test_fixed_features_are_not_the_policys_to_change(good: HostFacts) -> None:
    assert findings(ethtool_with(good, features={"rx-gro": False}, features_fixed=["rx-gro"])) == []


def test_the_gravest_come_first(good: HostFacts) -> None:
    both = nic_with(irqs_on(good, "1", "1", "1", "1"), speed_mbps=10000)
    assert [each.severity for each in findings(both)] == [Severity.WARNING, Severity.INFO]


def remedies(found: list[Finding]) -> list[str]:
    return [match[1] for each in found if (match := re.search(r"policy: (knobs: .*)", each.remedy))]


@pytest.mark.parametrize(("rule", "change", "severity"), CASES, ids=[f"{n}-{case[0]}" for n, case in enumerate(CASES)])
def test_the_policy_in_a_remedy_lints(good: HostFacts, rule: str, change: Change, severity: Severity) -> None:
    for knobs in remedies(findings(change(good))):
        assert lint(f"name: x\n{knobs.replace('<list>', '0-3')}") == []


@pytest.mark.parametrize("case", [case for case in CASES if case[0] in ("irq_remote", "irq_one_cpu", "xps_missing")])
def test_the_remedy_cures(good: HostFacts, case: tuple[str, Change, Severity]) -> None:
    ill = case[1](good)
    policy = parse_policy(f"name: x\n{remedies(findings(ill))[0]}")
    cured = project(ill, plan(compile_settings([policy], {}, ill), ill))
    assert case[0] not in {each.rule for each in findings(cured)}


def test_pcie_lanes_after_their_line_code() -> None:
    assert gigabits(5.0, 8) == 32.0
    assert round(gigabits(8.0, 8)) == 63
    assert round(gigabits(16.0, 16)) == 252
    assert gigabits(None, 8) == 0.0
