"""The policy language: what it takes, and where it says that something is wrong."""

from collections.abc import Callable
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuners.hostfacts import HostFacts
from tuners.planner import plan
from tuners.policy import PolicyError, compile_settings, lint, matches, parse_policy, why_nothing
from tuners.presets import PRESETS
from tuners.registry import ALL, BY_NAME
from tuners.select import KINDS, SelectError, host_fits, nic_fits, parse_condition
from wire.facts import Dmi, Fact
from wire.measure import Keep, Measure, Objective
from wire.policy import Blast, Mode, Setting

Make = Callable[..., list[Fact]]
Host = Callable[..., HostFacts]
ETH0, ETH1 = "52:54:00:00:00:03", "52:54:00:00:00:04"

WHOLE = """\
name: edge
priority: 10
match: [labels.role=edge, "dmi.vendor=Dell*"]
nics:
  - driver in ice,i40e
  - speed_mbps>=25000
preset: throughput
mode: warn
allow: [link]
knobs:
  rings: {rx: 4096, mode: enforce, allow: []}
  xps: {mode: [off, yield]}
  irq_affinity: {cpus: 0}
  offloads: {lro: no, rx-gro-hw: off}
confirm_within_s: 90
"""


def test_a_whole_policy() -> None:
    policy = parse_policy(WHOLE)
    assert (policy.name, policy.priority, policy.preset, policy.confirm_within_s) == ("edge", 10, "throughput", 90)
    assert (policy.mode, policy.allow) == (Mode.WARN, [Blast.LINK])
    assert [str(each) for each in policy.match] == ["labels.role=edge", "dmi.vendor=Dell*"]
    assert [str(each) for each in policy.nics] == ["nic.driver in ice,i40e", "nic.speed_mbps>=25000"]
    assert policy.knobs["rings"].values == {"rx": 4096}
    assert (policy.knobs["rings"].mode, policy.knobs["rings"].allow) == (Mode.ENFORCE, [])
    assert (policy.knobs["xps"].values, policy.knobs["xps"].mode) == ({"mode": "off"}, Mode.YIELD)
    assert policy.knobs["irq_affinity"].values == {"cpus": "0"}
    assert policy.knobs["offloads"].values == {"lro": False, "rx-gro-hw": False}


BASE = "name: x\npreset: pps\n"

GOLDENS = [
    ("", "1:1 the document is empty"),
    ("[]", "1:1 a policy must be a mapping, not a list"),
    ("preset: pps", "1:1 name is missing"),
    ("name: x", "1:1 neither preset nor knobs: nothing would be tuned"),
    ("name: [x]\npreset: pps", "1:7 must be a name, not a list"),
    ("name: a b\npreset: pps", "1:7 must be 1 to 64 letters, digits, dots, dashes and underscores"),
    (BASE + "priorty: 1", '3:1 a policy has no "priorty", did you mean "priority"?'),
    (BASE + "priority: high", '3:11 must be a whole number from -1000000 to 1000000, not "high"'),
    (BASE + "priority: 1e3", '3:11 must be a whole number from -1000000 to 1000000, not "1e3"'),
    (BASE + "name: y", '3:1 "name" stands twice, first in line 1'),
    (BASE + "<<: {a: 1}", '3:1 a policy has no "<<"'),
    (BASE + "confirm_within_s: 1", '3:19 must be a whole number from 5 to 3600, not "1"'),
    ("name: x\npreset: pp", '2:9 no preset "pp", did you mean "pps"? (throughput, latency, pps, balanced)'),
    (BASE + "mode: enforced", '3:7 no mode "enforced", did you mean "enforce"? (enforce, warn, yield)'),
    (
        BASE + "allow: [links]",
        '3:9 no blast class "links", did you mean "link"? (safe, link, blackhole, starvation, reboot)',
    ),
    (
        BASE + "match: [label.role=x]",
        "3:9 'label.role' is no label and no kind.field, did you mean \"labels\"?",
    ),
    (BASE + 'match:\n  - "dmi.vendr=Dell"', "4:10 dmi has no field 'vendr', did you mean \"vendor\"?"),
    (BASE + "nics: driver ~ x", "3:7 'driver ~ x' is no condition: write name=value, with one of = != >= <= > < in"),
    (BASE + "nics: drivr=x", "3:7 a NIC has no 'drivr', did you mean \"driver\"?"),
    (BASE + "nics: [speed_mbps>=fast]", "3:20 >= compares with a number, not 'fast'"),
    (BASE + "nics: [{driver: ice}]", "3:8 must be a condition such as labels.role=edge, not a mapping"),
    (BASE + "measure: pps", "3:10 measure must be a mapping, not a single value"),
    (BASE + "measure: {windows: 2}", '3:20 must be a whole number from 3 to 20, not "2"'),
    (BASE + "measure: {keep: bettr}", '3:17 no rule "bettr", did you mean "better"? (better, not_worse, always)'),
    (BASE + "knobs: []", "3:8 knobs must be a mapping, not a list"),
    (BASE + "knobs:\n  ringz: {}", '4:3 knobs has no "ringz", did you mean "rings"?'),
    (BASE + "knobs:\n  rings: {}", "4:10 rings has no value"),
    (BASE + "knobs:\n  rings: 4096", "4:10 rings must be a mapping, not a single value"),
    (BASE + "knobs:\n  rings: {size: 1}", '4:11 rings has no "size"'),
    (
        BASE + "knobs:\n  rings:\n    rx: 0",
        '5:9 rings.rx must be a whole number from 1 to 1048576, or "max", not 0',
    ),
    (
        BASE + "knobs:\n  rings: {rx: maximum}",
        '4:15 rings.rx must be a whole number from 1 to 1048576, or "max", not "maximum"',
    ),
    (
        BASE + "knobs:\n  rings: {rx: [1]}",
        '4:15 must be a whole number from 1 to 1048576, or "max", not a list',
    ),
    (BASE + "knobs:\n  rings: {rx: 1, tx: 2, rx: 3}", '4:25 "rx" stands twice, first in line 4'),
    (BASE + "knobs:\n  rings: {rx: 1, mode: wurn}", '4:24 no mode "wurn", did you mean "warn"? (enforce, warn, yield)'),
    (BASE + "knobs:\n  offloads: {grow: true}", '4:14 offloads has no "grow", did you mean "gro"?'),
    (BASE + "knobs:\n  offloads: {gro: 1}", '4:19 offloads.gro must be true or false, not "1"'),
    (BASE + "knobs:\n  offloads: {gro: 'on'}", '4:19 offloads.gro must be true or false, not "on"'),
    (
        BASE + "knobs:\n  irq_affinity: {cpus: 7-3}",
        '4:24 irq_affinity.cpus must be a CPU list such as 0-3,8, not "7-3"',
    ),
    (BASE + "knobs:\n  irq_affinity: {placement: list}", "4:3 irq_affinity: placement: list needs cpus"),
    (
        BASE + "knobs:\n  coalesce: {rx_usecs: 8}",
        "4:3 coalesce: rx_usecs has no effect while adaptive_rx is true: set adaptive_rx: false",
    ),
    (BASE + "knobs:\n  xps: {mode: [auto, off]}", '4:22 "off" is a second mode of the same kind'),
    (BASE + "x: &a 1", "3:4 aliases and anchors are not taken: write the values out"),
    (BASE + "y: *a", "3:4 aliases and anchors are not taken: write the values out"),
    ("!!python/object/apply:os.system [id]", "1:1 tags are not taken: write the plain value"),
    (BASE + "---\nname: y", "3:1 a second document: one policy per file"),
    ("a: {b: {c: {d: {e: {f: {g: {h: {}}}}}}}}", "1:32 nested over 8 deep"),
    ("name: {x", "1:9 not YAML: expected ',' or '}', but got '<stream end>'"),
    (BASE + "\tx: 1", "3:1 not YAML: found character '\\t' that cannot start any token"),
    ("name: \x07", "1:7 not YAML: special characters are not allowed"),
    ("name: x\n# \ud800", "2:3 not YAML: special characters are not allowed"),
    ("#" * 65537, "1:1 65537 bytes is over the limit of 65536 for a policy"),
]


@pytest.mark.parametrize(("text", "expected"), GOLDENS, ids=[expected[:50] for _, expected in GOLDENS])
def test_lint_says_where_and_what(text: str, expected: str) -> None:
    shown = [f"{line}:{column} {message}" for line, column, message in lint(text)]
    assert expected in shown
    with pytest.raises(PolicyError) as caught:
        parse_policy(text)
    assert list(caught.value.problems) == lint(text)
    assert str(caught.value).startswith("line ")


def test_several_problems_at_once_in_order() -> None:
    text = "name: x\npriority: high\npreset: fast\nknobs:\n  rings: {rx: -1}\n  rungs: {}\n"
    assert [(line, column) for line, column, _ in lint(text)] == [(2, 11), (3, 9), (5, 15), (6, 3)]


def test_a_laughing_document_is_refused_before_it_grows() -> None:
    lines = ['a0: &a0 ["lol"]'] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    assert "aliases" in lint("\n".join(lines))[0].message


@pytest.mark.parametrize("text", ["[" * 60000, "{" * 60000, "- " * 30000, "? " * 30000, "a: " * 20000])
def test_deep_documents_are_one_problem(text: str) -> None:
    assert len(lint(text)) == 1


@given(st.text(max_size=200) | st.text(alphabet="name: xpresknob{}[]\n-,&*!'\"|>", max_size=200))
def test_lint_never_raises(text: str) -> None:
    lint(text)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_sound(preset: str) -> None:
    assert lint(f"name: x\npreset: {preset}\n") == []
    for knob, values in PRESETS[preset].items():
        assert set(values) <= set(BY_NAME[knob].VALUES)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_plans_without_a_failure(host: Host, preset: str) -> None:
    facts = host()
    made = plan(compile_settings([parse_policy(f"name: x\npreset: {preset}\n")], {}, facts), facts)
    assert [skip for skip in made.skips if skip.status == "failed"] == []
    assert made.changes


def compiled(facts: HostFacts, *texts: str) -> dict[tuple[str, str], Setting]:
    return {
        (s.knob, s.nic): s for s in compile_settings([parse_policy(text) for text in texts], {"role": "edge"}, facts)
    }


def test_the_highest_priority_wins_per_value(host: Host) -> None:
    low = "name: low\npriority: 1\nknobs: {rings: {rx: 1024, tx: 1024, allow: [link]}}"
    high = "name: high\npriority: 2\nknobs: {rings: {rx: 2048, mode: warn}}"
    for texts in ((low, high), (high, low)):
        setting = compiled(host(), *texts)["rings", ETH0]
        assert setting.values == {"rx": 2048, "tx": 1024}
        assert (setting.policy, setting.mode, setting.allow) == ("high", Mode.WARN, [])


def test_equal_priorities_are_settled_by_name(host: Host) -> None:
    texts = [f"name: {name}\nknobs: {{rings: {{rx: {size}}}}}" for name, size in (("b", 2), ("a", 1))]
    assert compiled(host(), *texts)["rings", ETH0].values == {"rx": 1}


def test_what_is_measured_is_said_by_the_policy_and_stands_in_each_of_its_settings(host: Host) -> None:
    measured = parse_policy(BASE + "measure: {objective: pps, window_s: 5, keep: not_worse, probe: 10.0.0.1}")
    plain = parse_policy("name: y\nknobs: {rings: {rx: 512}}")
    rule = Measure(objective=Objective.PPS, window_s=5, keep=Keep.NOT_WORSE, probe="10.0.0.1")
    found = compile_settings([measured], {}, host())
    assert {setting.measure for setting in found} == {rule}
    assert {setting.measure for setting in compile_settings([plain], {}, host())} == {None}


def test_own_knobs_beat_the_policys_preset(host: Host) -> None:
    found = compiled(host(), "name: x\npreset: throughput\nknobs: {rings: {rx: 1024}}")
    assert found["rings", ETH0].values == {"rx": 1024, "tx": "max"}


def test_a_policy_is_for_physical_nics_unless_it_says_otherwise(host: Host, cpus: Make, nic: Make) -> None:
    facts = host(cpus(), nic(), nic(ifname="eth1", base=200))
    facts.nics[ETH1].type = "veth"
    assert set(compiled(facts, "name: x\nknobs: {rings: {rx: 1}}")) == {("rings", ETH0)}
    assert set(compiled(facts, "name: x\nnics: type=veth\nknobs: {rings: {rx: 1}}")) == {("rings", ETH1)}


def test_only_matching_hosts_have_settings(host: Host) -> None:
    assert compiled(host(), "name: x\nmatch: labels.role=db\npreset: pps") == {}
    assert compiled(host(), "name: x\nmatch: labels.role=e*\npreset: pps")


def test_a_selector_that_matches_nothing_is_explained(host: Host) -> None:
    hosts = [({"role": "edge"}, host()), ({"role": "edge"}, host())]
    for text, expected in [
        ("match: labels.role=db", "x: no host matches labels.role=db"),
        ("nics: driver=mlx5*", "x: 2 hosts match, but none has a NIC with nic.driver=mlx5*"),
        ("match: labels.role=edge", ""),
    ]:
        assert why_nothing(parse_policy(f"name: x\npreset: pps\n{text}"), hosts) == expected


def test_matches_is_about_the_host(host: Host) -> None:
    policy = parse_policy("name: x\npreset: pps\nmatch: [nic.driver=ice, cpu.online=0-7]")
    assert matches(policy, {}, host())


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("labels.role=edge", True),
        ("labels.role = EDGE", True),
        ("labels.role!=edge", False),
        ("labels.other!=x", True),
        ("labels.other=x", False),
        ("labels.role in core, edge", True),
        ("dmi.vendor=Dell*", True),
        ("dmi.vendor='Dell Inc.'", True),
        ("nic.numa_node=0", True),
        ("nic.up=false", True),
        ("nic.rx_queues>=4", True),
        ("nic.rx_queues>4", False),
        ("nic.speed_mbps<1000", False),
        ("ethtool.rings.rx_max>4096", True),
        ("ethtool.features_fixed=rx-lro", False),
        ("ethtool.features.rx-gro=true", True),
        ("memory.total_kb>1", False),
    ],
)
def test_conditions_over_a_host(host: Host, text: str, fits: bool) -> None:
    facts = host().replace([Dmi(vendor="Dell Inc.")])
    assert host_fits([parse_condition(text)], {"role": "edge"}, facts) is fits


@pytest.mark.parametrize(
    ("text", "fits"),
    [("driver=ice", True), ("nic.driver=ice", True), ("rings.rx=512", True), ("ethtool.rings.rx>512", False)],
)
def test_conditions_over_a_nic(host: Host, text: str, fits: bool) -> None:
    facts = host()
    assert nic_fits([parse_condition(text, of_nic=True)], facts.nics[ETH0], facts.ethtool[ETH0]) is fits
    assert nic_fits([parse_condition("rings.rx=512", of_nic=True)], facts.nics[ETH0], None) is False


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("", 1),
        ("driver", 1),
        ("=ice", 1),
        (" drivr=ice", 2),
        ("speed_mbps > x", 14),
        ("driver in ,", 11),
        ("x" * 600, 1),
    ],
)
def test_a_bad_condition_says_where(text: str, column: int) -> None:
    with pytest.raises(SelectError) as caught:
        parse_condition(text, of_nic=True)
    assert caught.value.column == column


def test_every_kind_of_fact_can_be_asked_for() -> None:
    from wire import facts  # noqa: PLC0415

    assert set(KINDS.values()) == set(get_args(facts.Fact))


def test_the_order_of_knobs_is_the_order_of_stages() -> None:
    shape, place = (
        ["channels", "rings", "offloads", "coalesce"],
        ["irq_affinity", "xps", "rps", "core_pinning", "cpu_power"],
    )
    assert [tuner.NAME for tuner in ALL if tuner.NAME in (*shape, *place)] == [*shape, *place]
